/* x^y, 0.51 ulp: in double precision, rounded once to float; all special cases as C's pow. */
#ifndef TAPEOUT_VPOW_H
#define TAPEOUT_VPOW_H

#include "vexp.h"

#define TO_D(x) v_splat_f64(x)

/* log2(a) for finite a > 0 that was a float, so that it is normal here; relative error 2^-42. */
TO_FN v_f64 to_log2_wide(v_f64 a) {
  v_i64 bits = (v_i64)a;
  /* 2^k m with 2/3 <= m < 4/3; the shift is logical, the bias keeps it positive */
  v_i64 k = (v_i64)((v_u64)(bits - 0x3FE5555555555555 + ((i64)1024 << 52)) >> 52) - 1024;
  v_f64 f = (v_f64)((v_u64)bits - ((v_u64)k << 52)) - 1;
  v_f64 s = f / (f + 2), z = s * s, q;
  q = v_fma_f64(TO_D(0x1.29c6ef14bba19p-2), z, TO_D(0x1.46f372e30e5c6p-2));
  q = v_fma_f64(q, z, TO_D(0x1.a61e97d95bf55p-2));
  q = v_fma_f64(q, z, TO_D(0x1.2776bc5951b45p-1));
  q = v_fma_f64(q, z, TO_D(0x1.ec709dcb4eedfp-1));
  q = v_fma_f64(q, z, TO_D(0x1.71547652b7e9ap+1));
  return v_fma_f64(q, s, __builtin_convertvector(__builtin_convertvector(k, v_i32), v_f64));
}

/* 2^z, |z| <= 512; relative error 2^-34. */
TO_FN v_f64 to_exp2_wide(v_f64 z) {
  v_f64 shifted = z + 0x1.8p52, r = z - (shifted - 0x1.8p52), q;
  q = v_fma_f64(TO_D(0x1.00f27882bd9a5p-16), r, TO_D(0x1.445e46bb09372p-13));
  q = v_fma_f64(q, r, TO_D(0x1.5d8720dec1affp-10));
  q = v_fma_f64(q, r, TO_D(0x1.3b29f13292b4cp-7));
  q = v_fma_f64(q, r, TO_D(0x1.c6b08df7d5acfp-5));
  q = v_fma_f64(q, r, TO_D(0x1.ebfbe07a62f3cp-3));
  q = v_fma_f64(q, r, TO_D(0x1.62e42fef79aa8p-1));
  q = v_fma_f64(q, r, TO_D(1));
  return (v_f64)((v_u64)q + ((v_u64)shifted << 52));
}

TO_BIG v_f32 v_pow_f32(v_f32 x, v_f32 y) {
  v_f32 a = v_abs_f32(x), inf = TO_C(__builtin_inff()), one = TO_C(1), r;
  v_i32 whole = v_trunc_f32(y) == y, odd = whole & (v_trunc_f32(y * 0.5f) != y * 0.5f);
  v_i32 nan = (x != x) | (y != y) | ((x < 0) & ~whole & (x > -inf));
  /* 1 stands in for 0 and inf, whose powers are set below */
  v_f64 z = to_log2_wide(__builtin_convertvector(v_blend_f32((a > 0) & (a < inf), a, one), v_f64));
  /* a limit on y, too, keeps log2(1) * inf from being NaN */
  v_f32 limited = v_fastmax_f32(TO_C(-0x1p100f), v_fastmin_f32(TO_C(0x1p100f), y));
  z *= __builtin_convertvector(limited, v_f64);
  z = v_fastmax_f64(TO_D(-200), v_fastmin_f64(TO_D(200), z));
  r = __builtin_convertvector(to_exp2_wide(z), v_f32);
  r = v_blend_f32((a == 0), v_blend_f32(y < 0, inf, TO_C(0)), r);
  r = v_blend_f32((a == inf), v_blend_f32(y < 0, TO_C(0), inf), r);
  r = (v_f32)((v_i32)r | ((v_i32)x & odd & INT32_MIN));
  r = v_blend_f32(nan, TO_C(__builtin_nanf("")), r);
  return v_blend_f32((y == 0) | (x == 1), one, r);
}

#endif
