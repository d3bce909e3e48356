/* log, log2, log1p. x = 2^k m with 2/3 <= m < 4/3, and a polynomial in f = m - 1, so that results
 * near x = 1 keep their relative accuracy. Negative x gives NaN, zero -inf, inf inf. */
#ifndef TAPEOUT_VLOG_H
#define TAPEOUT_VLOG_H

#include "vec.h"

/* x positive and normal: *k the exponent, and m - 1. */
TO_FN v_f32 to_split_pow2(v_f32 x, v_i32 *k) {
  v_u32 bits = (v_u32)x;
  *k = (v_i32)(bits - 0x3F2AAAAB) >> 23; /* the bits of 2/3 */
  return (v_f32)(bits - ((v_u32)*k << 23)) - 1;
}

/* The same for subnormals too. */
TO_FN v_f32 to_split_any_pow2(v_f32 x, v_f32 *k) {
  v_i32 small = x < v_splat_f32(0x1p-126f), i;
  v_f32 f = to_split_pow2(v_blend_f32(small, x * 0x1p23f, x), &i);
  *k = __builtin_convertvector(i - (small & 23), v_f32);
  return f;
}

/* log(1 + f) - f on [-1/3, 1/3], relative error of the logarithm below 2^-27. */
TO_FN v_f32 to_log_tail(v_f32 f) {
  v_f32 s = f * f;
  v_f32 q = v_fma_f32(v_splat_f32(-0x1.07ad14p-3f), f, v_splat_f32(0x1.1e6ff2p-3f));
  q = v_fma_f32(q, f, v_splat_f32(-0x1.f33bdap-4f));
  q = v_fma_f32(q, f, v_splat_f32(0x1.1ed4c0p-3f));
  q = v_fma_f32(q, f, v_splat_f32(-0x1.559c2ep-3f));
  q = v_fma_f32(q, f, v_splat_f32(0x1.99d058p-3f));
  q = v_fma_f32(q, f, v_splat_f32(-0x1.fffefap-3f));
  q = v_fma_f32(q, f, v_splat_f32(0x1.555506p-2f));
  return v_fma_f32(q * f, s, s * -0.5f);
}

/* k ln2 + log(1 + f). The high part of ln2 has 12 significant bits: exact without FMA too. */
TO_FN v_f32 to_log_of(v_f32 k, v_f32 f) {
  v_f32 low = v_fma_f32(k, v_splat_f32(-0x1.bd0106p-13f), to_log_tail(f));
  return v_fma_f32(k, v_splat_f32(0x1.63p-1f), f + low);
}

/* y, but for x with no logarithm, or an infinite one. */
TO_FN v_f32 to_log_edges(v_f32 x, v_f32 y) {
  y = v_blend_f32(x < __builtin_inff(), y, x);
  y = v_blend_f32(x == 0, v_splat_f32(-__builtin_inff()), y);
  return v_blend_f32(x < 0, v_splat_f32(__builtin_nanf("")), y);
}

/* 0.9 ulp. */
TO_FN v_f32 v_log_f32(v_f32 x) {
  v_f32 k, f = to_split_any_pow2(x, &k);
  return to_log_edges(x, to_log_of(k, f));
}

/* log2(x), 1.5 ulp, exact for powers of two. */
TO_FN v_f32 v_log2_f32(v_f32 x) {
  v_f32 k, f = to_split_any_pow2(x, &k);
  v_f32 q = v_fma_f32(v_splat_f32(-0x1.6c15bcp-3f), f, v_splat_f32(0x1.82cddap-3f));
  q = v_fma_f32(q, f, v_splat_f32(-0x1.6bf4fap-3f));
  q = v_fma_f32(q, f, v_splat_f32(0x1.a3dd52p-3f));
  q = v_fma_f32(q, f, v_splat_f32(-0x1.ec8d5cp-3f));
  q = v_fma_f32(q, f, v_splat_f32(0x1.276618p-2f));
  q = v_fma_f32(q, f, v_splat_f32(-0x1.71549ep-2f));
  q = v_fma_f32(q, f, v_splat_f32(0x1.ec7180p-2f));
  q = v_fma_f32(q, f, v_splat_f32(-0x1.715476p-1f));
  q = v_fma_f32(q, f, v_splat_f32(0x1.715476p+0f));
  return to_log_edges(x, v_fma_f32(q, f, k));
}

/* log(1 + x), 1.6 ulp: what 1 + x rounds away goes back into f. -1 gives -inf, the sign of zero
 * stays. */
TO_FN v_f32 v_log1p_f32(v_f32 x) {
  v_f32 u = x + 1, back = u - 1;
  v_f32 lost = (1 - (u - back)) + (x - back);
  v_i32 k, scale;
  v_f32 f = to_split_pow2(u, &k), y;
  /* 2^-k; 0 from 2^30 on, where the lost part is below half an ulp of the result */
  scale = (v_i32)((v_u32)(127 - k) << 23) & (x < 0x1p30f);
  f = v_fma_f32(lost, (v_f32)scale, f);
  y = to_log_edges(u, to_log_of(__builtin_convertvector(k, v_f32), f));
  return v_blend_f32(x == 0, x, y);
}

#endif
