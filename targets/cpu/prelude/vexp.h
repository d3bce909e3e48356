/* exp, exp2, expm1.
 *
 * One scheme: x = n ln2 + r with n an integer and |r| <= ln2 / 2, a polynomial for exp(r) - 1, a
 * scaling by 2^n that rounds once, also when the result is subnormal. No table, no reciprocal
 * estimate: the bits are the same wherever there is FMA. NaN gives NaN throughout. Errors in the
 * comments are the largest measured with FMA; README.md has those of plain C and how they were
 * measured. */
#ifndef TAPEOUT_VEXP_H
#define TAPEOUT_VEXP_H

#include "vec.h"

#define TO_C(x) v_splat_f32(x)
#define TO_LOG2E 0x1.715476p+0f
/* ln2 = high + low; high has 12 significant bits, so that n * high is exact without FMA too. */
#define TO_LN2_HIGH 0x1.63p-1f
#define TO_LN2_LOW -0x1.bd0106p-13f
/* Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits. */
#define TO_SHIFTER 0x1.8p23f

/* 2^n for an integer float -126 <= n <= 127. */
TO_FN v_f32 to_pow2(v_f32 n) {
  return (v_f32)(((v_u32)(n + TO_C(TO_SHIFTER + 127))) << 23);
}

/* p * 2^n for an integer float -252 <= n <= 254 and 0.5 <= p <= 2, rounded once. */
TO_FN v_f32 to_scale(v_f32 p, v_f32 n) {
#if TO_AVX512
  return __builtin_ia32_scalefps512_mask(p, n, p, (u16)-1, 4);
#else
  v_f32 half = (n * 0.5f + TO_SHIFTER) - TO_SHIFTER;
  return p * to_pow2(half) * to_pow2(n - half);
#endif
}

/* n = x / ln2 to the nearest integer, *r = x - n ln2. For |x| <= 2^7. */
TO_FN v_f32 to_split_ln2(v_f32 x, v_f32 *r) {
  v_f32 n = v_fma_f32(x, TO_C(TO_LOG2E), TO_C(TO_SHIFTER)) - TO_SHIFTER;
  *r = v_fma_f32(n, TO_C(-TO_LN2_LOW), v_fma_f32(n, TO_C(-TO_LN2_HIGH), x));
  return n;
}

/* (exp(r) - 1 - r) / r^2 on |r| <= ln2 / 2; relative error of exp below 2^-28. */
TO_FN v_f32 to_exp_tail(v_f32 r) {
  v_f32 q = v_fma_f32(TO_C(0x1.6a4966p-10f), r, TO_C(0x1.1239a0p-7f));
  q = v_fma_f32(q, r, TO_C(0x1.5558b4p-5f));
  q = v_fma_f32(q, r, TO_C(0x1.555492p-3f));
  return v_fma_f32(q, r, TO_C(0x1.fffffcp-2f));
}

/* exp(r) on |r| <= ln2 / 2. */
TO_FN v_f32 to_exp_poly(v_f32 r) {
  v_f32 q = v_fma_f32(to_exp_tail(r), r, TO_C(1));
  return v_fma_f32(q, r, TO_C(1));
}

/* exp(r) - 1 on |r| <= ln2 / 2, small also in relative terms near 0. */
TO_FN v_f32 to_expm1_poly(v_f32 r) { return v_fma_f32(to_exp_tail(r) * r, r, r); }

/* exp(x), 0.9 ulp; x > 88.72 gives inf, x < -103.97 gives 0, subnormals are rounded once. */
TO_FN v_f32 v_exp_f32(v_f32 x) {
  v_f32 r, n;
  x = v_fastmax_f32(TO_C(-104), v_fastmin_f32(TO_C(89), x)); /* second operand: keeps NaN */
  n = to_split_ln2(x, &r);
  return to_scale(to_exp_poly(r), n);
}

/* 2^r on |r| <= 1/2; relative error below 2^-28. */
TO_FN v_f32 to_exp2_poly(v_f32 r) {
  v_f32 q = v_fma_f32(TO_C(0x1.417aa4p-13f), r, TO_C(0x1.5f0948p-10f));
  q = v_fma_f32(q, r, TO_C(0x1.3b2dd2p-7f));
  q = v_fma_f32(q, r, TO_C(0x1.c6af7ap-5f));
  q = v_fma_f32(q, r, TO_C(0x1.ebfbdcp-3f));
  q = v_fma_f32(q, r, TO_C(0x1.62e430p-1f));
  return v_fma_f32(q, r, TO_C(1));
}

/* 2^x, 0.9 ulp, exact for integers; x >= 128 gives inf, x < -150 gives 0. */
TO_FN v_f32 v_exp2_f32(v_f32 x) {
  v_f32 n;
  x = v_fastmax_f32(TO_C(-151), v_fastmin_f32(TO_C(129), x));
  n = (x + TO_SHIFTER) - TO_SHIFTER;
  return to_scale(to_exp2_poly(x - n), n);
}

/* exp(x) - 1, 1.5 ulp; -1 from -17.4 down, x itself near 0 (the sign of zero stays). */
TO_FN v_f32 v_expm1_f32(v_f32 x) {
  v_f32 r, n, s, p;
  x = v_fastmax_f32(TO_C(-18), v_fastmin_f32(TO_C(89), x));
  n = to_split_ln2(x, &r);
  p = to_expm1_poly(r);
  /* 2^(n - 1), doubled last: 2^128 is no float */
  s = to_pow2(n - 1);
  s = v_fma_f32(s, p, s - 0.5f) * 2;
  return v_copysign_f32(v_blend_f32(n == 0, p, s), x);
}

#endif
