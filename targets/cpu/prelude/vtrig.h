/* sin and cos, for every float: x = n pi/2 + r, |r| <= pi/4, reduced in double precision up to 2^19
 * and by the digits of 2/pi beyond. 1.6 ulp. Infinity and NaN give NaN. */
#ifndef TAPEOUT_VTRIG_H
#define TAPEOUT_VTRIG_H

#include "vec.h"

/* x = n pi/2 + *r for one |x| >= 2^19, as Payne and Hanek do: of m 2^e 2/pi only the bits below 4
 * count. Returns n modulo 4. Error of *r below 2^-60. */
static __attribute__((noinline, cold, unused)) i32 to_reduce_large(f32 x, f32 *r) {
  static const u32 two_over_pi[10] = {/* a zero word, then 2/pi from 2^-1 down */
                                      0,          0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0,
                                      0xDB629599, 0x3C439041, 0xFE5163AB, 0xDEBBC561, 0xB7246E3A};
  union {
    f32 value;
    u32 bits;
  } u = {x};
  u32 exponent = (u.bits >> 23) & 255;
  u64 m = (u.bits & 0x7FFFFF) | 0x800000, high, low, turns;
  i64 fraction;
  i32 n;
  if (exponent == 255) {
    *r = x - x;
    return 0;
  }
  /* x = m 2^e, e = exponent - 150; the bit that weighs 2 in 2^e 2/pi stands e + 30 bits in */
  u32 at = exponent - 120, word = at >> 5, shift = at & 31;
  high = (u64)two_over_pi[word] << 32 | two_over_pi[word + 1];
  low = (u64)two_over_pi[word + 2] << 32 | (word + 3 < 10 ? two_over_pi[word + 3] : 0);
  if (shift) {
    high = high << shift | low >> (64 - shift);
    low <<= shift;
  }
  turns = m * high + ((m * (low >> 32)) >> 32); /* modulo 4, in units of 2^-62 */
  n = (i32)((turns + ((u64)1 << 61)) >> 62);
  fraction = (i64)(turns - ((u64)n << 62));
  *r = (f32)((f64)fraction * (0x1.921fb54442d18p+0 * 0x1p-62));
  if (x < 0) {
    *r = -*r;
    n = -n;
  }
  return n;
}

/* x = *n pi/2 + r. The high part of pi/2 has 33 bits, so n times it is exact. */
TO_FN v_f32 to_reduce_half_pi(v_f32 x, v_i32 *n) {
  v_i32 large = ~(v_abs_f32(x) < 0x1p19f);
  v_f64 wide = __builtin_convertvector((v_f32)((v_i32)x & ~large), v_f64);
  v_f64 turns = (wide * 0x1.45f306dc9c883p-1 + 0x1.8p52) - 0x1.8p52;
  v_f32 r = __builtin_convertvector(
      (wide - turns * 0x1.921fb544p+0) - turns * 0x1.0b4611a626331p-34, v_f32);
  *n = __builtin_convertvector(turns, v_i32);
  if (v_any_f32(large)) {
    lanes_f32 rs = {r}, xs = {x};
    lanes_i32 ns = {*n}, larges = {large};
    for (int i = 0; i < TO_LANES; i++)
      if (larges.lane[i]) ns.lane[i] = to_reduce_large(xs.lane[i], &rs.lane[i]);
    *n = ns.v;
    r = rs.v;
  }
  return r;
}

/* sin(r + n pi/2) for |r| <= pi/4. */
TO_FN v_f32 to_sin_quadrant(v_f32 r, v_i32 n) {
  v_f32 s = r * r, a, b;
  a = v_fma_f32(v_splat_f32(-0x1.995300p-13f), s, v_splat_f32(0x1.110776p-7f));
  a = v_fma_f32(a, s, v_splat_f32(-0x1.555546p-3f));
  a = v_copysign_f32(v_fma_f32(a * s, r, r), r);
  b = v_fma_f32(v_splat_f32(0x1.99e0e6p-16f), s, v_splat_f32(-0x1.6c0c1ap-10f));
  b = v_fma_f32(b, s, v_splat_f32(0x1.55554ap-5f));
  b = v_fma_f32(b, s, v_splat_f32(-0.5f));
  b = v_fma_f32(b, s, v_splat_f32(1));
  a = v_blend_f32((n & 1) != 0, b, a);
  return (v_f32)((v_u32)a ^ ((v_u32)(n & 2) << 30));
}

/* The sign of zero stays. */
TO_BIG v_f32 v_sin_f32(v_f32 x) {
  v_i32 n;
  v_f32 r = to_reduce_half_pi(x, &n);
  return v_blend_f32(x == 0, x, to_sin_quadrant(r, n));
}

TO_BIG v_f32 v_cos_f32(v_f32 x) {
  v_i32 n;
  v_f32 r = to_reduce_half_pi(x, &n);
  return to_sin_quadrant(r, n + 1);
}

#endif
