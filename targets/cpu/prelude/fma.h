/* a * b + c rounded once, and the steps of float that one instruction gives: square root, rounding
 * to integers, sign and magnitude. Without FMA hardware (generic C) v_fma rounds twice: only there
 * do bits differ from the other instruction sets. Included by vec.h. */
#ifndef TAPEOUT_FMA_H
#define TAPEOUT_FMA_H

#if TO_AVX512
#define TO_HAS_FMA 1
TO_FN v_f32 v_fma_f32(v_f32 a, v_f32 b, v_f32 c) {
  return __builtin_ia32_vfmaddps512_mask(a, b, c, (u16)-1, 4);
}
TO_FN h_f64 to_fma_half(h_f64 a, h_f64 b, h_f64 c) {
  return __builtin_ia32_vfmaddpd512_mask(a, b, c, (u8)-1, 4);
}
TO_FN v_f32 v_sqrt_f32(v_f32 x) { return __builtin_ia32_sqrtps512_mask(x, x, (u16)-1, 4); }
/* how: 8 to nearest even, 9 down, 10 up, 11 toward zero; no inexact flag. */
#define TO_ROUND(x, how) __builtin_ia32_rndscaleps_mask(x, how, x, (u16)-1, 4)
#define TO_NEAREST(x) TO_ROUND(x, 8)
#define TO_FLOOR(x) TO_ROUND(x, 9)
#define TO_CEIL(x) TO_ROUND(x, 10)
#define TO_TRUNC(x) TO_ROUND(x, 11)
#elif TO_AVX2
#define TO_HAS_FMA 1
TO_FN v_f32 v_fma_f32(v_f32 a, v_f32 b, v_f32 c) { return __builtin_ia32_vfmaddps256(a, b, c); }
TO_FN h_f64 to_fma_half(h_f64 a, h_f64 b, h_f64 c) { return __builtin_ia32_vfmaddpd256(a, b, c); }
TO_FN v_f32 v_sqrt_f32(v_f32 x) { return __builtin_ia32_sqrtps256(x); }
#define TO_NEAREST(x) __builtin_ia32_roundps256(x, 8)
#define TO_FLOOR(x) __builtin_ia32_roundps256(x, 9)
#define TO_CEIL(x) __builtin_ia32_roundps256(x, 10)
#define TO_TRUNC(x) __builtin_ia32_roundps256(x, 11)
#elif TO_NEON
#define TO_HAS_FMA 1
TO_FN v_f32 v_fma_f32(v_f32 a, v_f32 b, v_f32 c) {
  return (v_f32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
TO_FN h_f64 to_fma_half(h_f64 a, h_f64 b, h_f64 c) {
  return (h_f64)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
TO_FN v_f32 v_sqrt_f32(v_f32 x) { return (v_f32)vsqrtq_f32((float32x4_t)x); }
#define TO_NEAREST(x) (v_f32) vrndnq_f32((float32x4_t)(x))
#define TO_FLOOR(x) (v_f32) vrndmq_f32((float32x4_t)(x))
#define TO_CEIL(x) (v_f32) vrndpq_f32((float32x4_t)(x))
#define TO_TRUNC(x) (v_f32) vrndq_f32((float32x4_t)(x))
#else
TO_FN v_f32 v_fma_f32(v_f32 a, v_f32 b, v_f32 c) { return a * b + c; }
TO_FN h_f64 to_fma_half(h_f64 a, h_f64 b, h_f64 c) { return a * b + c; }
#define TO_LANE_SQRT(i) __builtin_sqrtf(x[i])
TO_FN v_f32 v_sqrt_f32(v_f32 x) { return (v_f32){TO_EACH(TO_LANE_SQRT)}; }
#endif

TO_FN v_f64 v_fma_f64(v_f64 a, v_f64 b, v_f64 c) {
  lanes_f64 x = {a}, y = {b}, z = {c};
  for (int i = 0; i < 2; i++) z.h[i] = to_fma_half(x.h[i], y.h[i], z.h[i]);
  return z.v;
}

TO_FN v_f32 v_abs_f32(v_f32 x) { return (v_f32)((v_i32)x & 0x7FFFFFFF); }
/* The magnitude of x with the sign of s. */
TO_FN v_f32 v_copysign_f32(v_f32 x, v_f32 s) {
  return (v_f32)(((v_i32)x & 0x7FFFFFFF) | ((v_i32)s & INT32_MIN));
}
TO_FN v_f64 v_abs_f64(v_f64 x) { return (v_f64)((v_i64)x & INT64_MAX); }
TO_FN v_f64 v_copysign_f64(v_f64 x, v_f64 s) {
  return (v_f64)(((v_i64)x & INT64_MAX) | ((v_i64)s & INT64_MIN));
}

#if TO_GENERIC
/* Below 2^23 adding and taking away 2^23 rounds to nearest even; from there all are integers. */
TO_FN v_f32 to_nearest(v_f32 x) {
  v_f32 a = v_abs_f32(x);
  v_f32 r = (a + 0x1p23f) - 0x1p23f;
  return v_copysign_f32(v_blend_f32(a < v_splat_f32(0x1p23f), r, a), x);
}
TO_FN v_f32 to_floor(v_f32 x) {
  v_f32 r = to_nearest(x);
  return v_copysign_f32(r - (v_f32)((v_i32)v_splat_f32(1) & (r > x)), x);
}
TO_FN v_f32 to_ceil(v_f32 x) { return -to_floor(-x); }
TO_FN v_f32 to_trunc(v_f32 x) { return v_copysign_f32(to_floor(v_abs_f32(x)), x); }
#define TO_NEAREST(x) to_nearest(x)
#define TO_FLOOR(x) to_floor(x)
#define TO_CEIL(x) to_ceil(x)
#define TO_TRUNC(x) to_trunc(x)
#endif

/* Correctly rounded square root; -0 stays, below 0 and NaN give NaN. */
#define TO_LANE_SQRT64(i) __builtin_sqrt(x[i])
TO_FN v_f64 v_sqrt_f64(v_f64 x) { return (v_f64){TO_EACH(TO_LANE_SQRT64)}; }
/* To integers, exact; the sign of zero stays; v_round ties to even. */
TO_FN v_f32 v_round_f32(v_f32 x) { return TO_NEAREST(x); }
TO_FN v_f32 v_floor_f32(v_f32 x) { return TO_FLOOR(x); }
TO_FN v_f32 v_ceil_f32(v_f32 x) { return TO_CEIL(x); }
TO_FN v_f32 v_trunc_f32(v_f32 x) { return TO_TRUNC(x); }
/* -1, 0 or 1; NaN stays; the sign of zero stays. */
TO_FN v_f32 v_sign_f32(v_f32 x) {
  v_f32 one = v_copysign_f32(v_splat_f32(1), x);
  return v_blend_f32((v_i32)(v_abs_f32(x) > 0), one, x);
}

#endif
