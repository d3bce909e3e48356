/* Floats of 16 and 8 bits in memory, f32 in registers: load widens exactly, store rounds once to
 * nearest even. The meaning is that of the Python package ml_dtypes, NaN included: a stored NaN is
 * the quiet one with x's sign (f16 from F16C or NEON keeps the upper payload bits too).
 *
 *   f16                      overflow gives inf
 *   bf16                     overflow gives inf. AVX512_BF16's own instruction is not used: it
 *                            flushes subnormals to zero
 *   f8e4m3fn                 no inf; overflow and inf give NaN (0x7F with the sign)
 *   f8e5m2                   overflow gives inf
 *   f8e4m3fnuz, f8e5m2fnuz   no inf, no -0; overflow, inf and NaN give 0x80
 *
 * v_store_sat_F8: overflow and inf give the largest finite value instead, as ONNX's Cast with
 * saturate = 1 does; NaN stays NaN. */
#ifndef TAPEOUT_HALF_H
#define TAPEOUT_HALF_H

#include "vec.h"

typedef u16 f16;
typedef u16 bf16;
typedef u8 f8e4m3fn;
typedef u8 f8e4m3fnuz;
typedef u8 f8e5m2;
typedef u8 f8e5m2fnuz;

TO_FN v_i32 to_widen_u8(v_u8 x) {
  return (v_i32)__builtin_convertvector(__builtin_convertvector(x, v_u16), v_u32);
}
TO_FN v_u8 to_narrow_u8(v_i32 x) {
  return __builtin_convertvector(__builtin_convertvector((v_u32)x, v_u16), v_u8);
}

/* |x| rounded to `mantissa` bits below the leading one and at least exponent 1 - bias, as the bits
 * of that small format without its sign, exponents unbounded above; NaN and inf give junk there. */
TO_FN v_i32 to_round_bits(v_f32 magnitude, int mantissa, int bias) {
  int drop = 23 - mantissa;
  v_i32 bits = (v_i32)magnitude;
  v_i32 normal = (v_i32)((v_u32)bits + ((1u << (drop - 1)) - 1) + (((v_u32)bits >> drop) & 1));
  /* adding 2^k with its last bit at the smallest subnormal rounds to a multiple of that */
  i32 anchor_bits = (127 + 1 - bias - mantissa + 23) << 23;
  v_f32 anchor = (v_f32)v_splat_i32(anchor_bits);
  v_i32 subnormal = (v_i32)(magnitude + anchor) - anchor_bits;
  normal = (normal >> drop) - ((127 - bias) << mantissa);
  return v_blend_i32(bits < ((127 + 1 - bias) << 23), subnormal, normal);
}

/* The value of small-format bits without a sign, before the top code is looked at. */
TO_FN v_f32 to_widen_bits(v_i32 magnitude, int mantissa, int bias) {
  v_f32 scale = (v_f32)v_splat_i32((127 + 127 - bias) << 23); /* 2^(127 - bias) */
  return (v_f32)(magnitude << (23 - mantissa)) * scale;
}

/* bf16 */
#if TO_AVX512 || TO_AVX2
typedef short to_halves __attribute__((vector_size(2 * TO_LANES)));
#endif
TO_FN v_f32 to_f32_bf16(v_u16 x) {
/* gcc takes the plain conversion in halves, and puts these together. */
#if TO_AVX512
  v_u32 wide = (v_u32)__builtin_ia32_pmovzxwd512_mask((to_halves)x, (v_i32){0}, (u16)-1);
#elif TO_AVX2
  v_u32 wide = (v_u32)__builtin_ia32_pmovzxwd256((to_halves)x);
#else
  v_u32 wide = __builtin_convertvector(x, v_u32);
#endif
  return (v_f32)(wide << 16);
}
TO_FN v_u16 to_bf16_f32(v_f32 x) {
  v_i32 bits = (v_i32)x;
  v_i32 rounded = (v_i32)((v_u32)bits + 0x7FFF + (v_u32)((bits >> 16) & 1));
  rounded = v_blend_i32(x != x, (bits & INT32_MIN) | 0x7FC00000, rounded);
  return __builtin_convertvector((v_u32)rounded >> 16, v_u16);
}

/* f16 */
#if TO_AVX512
TO_FN v_f32 to_f32_f16(v_u16 x) {
  return __builtin_ia32_vcvtph2ps512_mask((to_halves)x, v_zero_f32(), (u16)-1, 4);
}
TO_FN v_u16 to_f16_f32(v_f32 x) {
  return (v_u16)__builtin_ia32_vcvtps2ph512_mask(x, 0, (to_halves){0}, (u16)-1);
}
#elif TO_AVX2
TO_FN v_f32 to_f32_f16(v_u16 x) { return __builtin_ia32_vcvtph2ps256((to_halves)x); }
TO_FN v_u16 to_f16_f32(v_f32 x) { return (v_u16)__builtin_ia32_vcvtps2ph256(x, 0); }
#elif TO_NEON
TO_FN v_f32 to_f32_f16(v_u16 x) {
  return (v_f32)vcvt_f32_f16(vreinterpret_f16_u16((uint16x4_t)x));
}
TO_FN v_u16 to_f16_f32(v_f32 x) {
  return (v_u16)vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x));
}
#else
TO_FN v_f32 to_f32_f16(v_u16 x) {
  v_i32 bits = (v_i32)__builtin_convertvector(x, v_u32), magnitude = bits & 0x7FFF;
  v_i32 wide = (v_i32)to_widen_bits(magnitude, 10, 15);
  /* the top exponent is that of inf and NaN; a NaN comes out quiet */
  wide |= (magnitude >= 0x7C00) & 0x7F800000;
  wide |= (magnitude > 0x7C00) & 0x00400000;
  return (v_f32)((v_u32)wide | ((v_u32)bits & 0x8000) << 16);
}
TO_FN v_u16 to_f16_f32(v_f32 x) {
  v_i32 bits = to_round_bits(v_abs_f32(x), 10, 15);
  bits = v_blend_i32(bits > 0x7C00, v_splat_i32(0x7C00), bits);
  bits = v_blend_i32(x != x, 0x7E00 | (((v_i32)x >> 13) & 0x1FF), bits);
  return __builtin_convertvector((v_u32)(bits | (((v_i32)x >> 16) & 0x8000)), v_u16);
}
#endif

/* Eight bits: `top` is the largest finite code, `over` what lies beyond, `nan` NaN's code without
 * its sign. F is the format with inf or a signed NaN, FNUZ the one with neither. */
#define TO_FLOAT8(F, mantissa, bias, top, over, nan)                                           \
  TO_FN v_f32 to_f32_##F(v_u8 x) {                                                             \
    v_i32 bits = to_widen_u8(x), magnitude = bits & 0x7F;                                      \
    v_i32 wide = (v_i32)to_widen_bits(magnitude, mantissa, bias);                              \
    if (over != nan) wide = v_blend_i32(magnitude == over, v_splat_i32(0x7F800000), wide);     \
    wide = v_blend_i32(magnitude > (over != nan ? over : top), v_splat_i32(0x7FC00000), wide); \
    return (v_f32)((v_u32)wide | ((v_u32)bits & 0x80) << 24);                                  \
  }                                                                                            \
  TO_FN v_u8 to_##F##_f32_with(v_f32 x, int beyond) {                                          \
    v_i32 bits = to_round_bits(v_abs_f32(x), mantissa, bias);                                  \
    bits = v_blend_i32(bits > top, v_splat_i32(beyond), bits);                                 \
    bits = v_blend_i32(x != x, v_splat_i32(nan), bits);                                        \
    return to_narrow_u8(bits | (((v_i32)x >> 24) & 0x80));                                     \
  }                                                                                            \
  TO_FN v_u8 to_##F##_f32(v_f32 x) { return to_##F##_f32_with(x, over); }                      \
  TO_FN v_u8 to_sat_##F##_f32(v_f32 x) { return to_##F##_f32_with(x, top); }
TO_FLOAT8(f8e4m3fn, 3, 7, 0x7E, 0x7F, 0x7F)
TO_FLOAT8(f8e5m2, 2, 15, 0x7B, 0x7C, 0x7E)

#define TO_FLOAT8_FNUZ(F, mantissa, bias)                                               \
  TO_FN v_f32 to_f32_##F(v_u8 x) {                                                      \
    v_i32 bits = to_widen_u8(x);                                                        \
    v_i32 wide = (v_i32)to_widen_bits(bits & 0x7F, mantissa, bias);                     \
    wide |= (v_i32)(((v_u32)bits & 0x80) << 24);                                        \
    return (v_f32)v_blend_i32(bits == 0x80, v_splat_i32(0x7FC00000 | INT32_MIN), wide); \
  }                                                                                     \
  TO_FN v_u8 to_##F##_f32_with(v_f32 x, int saturate) {                                 \
    v_i32 bits = to_round_bits(v_abs_f32(x), mantissa, bias);                           \
    v_i32 nan = x != x, sign = ((v_i32)x >> 24) & 0x80 & (bits != 0);                   \
    if (saturate)                                                                       \
      bits = v_blend_i32(bits > 0x7F, v_splat_i32(0x7F), bits);                         \
    else                                                                                \
      nan |= bits > 0x7F;                                                               \
    return to_narrow_u8(v_blend_i32(nan, v_splat_i32(0x80), bits | sign));              \
  }                                                                                     \
  TO_FN v_u8 to_##F##_f32(v_f32 x) { return to_##F##_f32_with(x, 0); }                  \
  TO_FN v_u8 to_sat_##F##_f32(v_f32 x) { return to_##F##_f32_with(x, 1); }
TO_FLOAT8_FNUZ(f8e4m3fnuz, 3, 8)
TO_FLOAT8_FNUZ(f8e5m2fnuz, 2, 16)

/* F from memory as f32 and back, whole, first n lanes, lane-strided; one value alone; and f32
 * rounded to what F can hold (16-bit formats round in one way: _sat there is the plain one). */
#define TO_STORAGE(F, U)                                                                           \
  TO_FN v_f32 v_load_##F(const F *p) { return to_f32_##F(v_load_##U(p)); }                         \
  TO_FN v_f32 v_load_n_##F(const F *p, i64 n) { return to_f32_##F(v_load_n_##U(p, n)); }           \
  TO_FN v_f32 v_gather_##F(const F *p, i64 stride) {                                               \
    return to_f32_##F(v_gather_##U(p, stride));                                                    \
  }                                                                                                \
  TO_FN v_f32 v_gather_idx_##F(const F *p, v_i64 i) { return to_f32_##F(v_gather_idx_##U(p, i)); } \
  TO_FN f32 s_f32_from_##F(F x) { return to_f32_##F(v_splat_##U(x))[0]; }                          \
  TO_FN F s_##F##_from_f32(f32 x) { return to_##F##_f32(v_splat_f32(x))[0]; }                      \
  TO_FN v_f32 v_round_to_##F(v_f32 x) { return to_f32_##F(to_##F##_f32(x)); }                      \
  TO_STORES(store, F, U, to_##F##_f32)
#define TO_STORES(store, F, U, round)                                                   \
  TO_FN void v_##store##_##F(F *p, v_f32 x) { v_store_##U(p, round(x)); }               \
  TO_FN void v_##store##_n_##F(F *p, v_f32 x, i64 n) { v_store_n_##U(p, round(x), n); } \
  TO_FN void v_##store##_strided_##F(F *p, i64 stride, v_f32 x) {                       \
    v_scatter_##U(p, stride, round(x));                                                 \
  }
#define TO_STORAGE16(F) \
  TO_STORAGE(F, u16)    \
  TO_FN v_f32 v_round_to_##F##_sat(v_f32 x) { return v_round_to_##F(x); }
TO_STORAGE16(f16)
TO_STORAGE16(bf16)
#define TO_STORAGE8(F)                                                                \
  TO_STORAGE(F, u8)                                                                   \
  TO_STORES(store_sat, F, u8, to_sat_##F##_f32)                                       \
  TO_FN F s_##F##_from_f32_sat(f32 x) { return to_sat_##F##_f32(v_splat_f32(x))[0]; } \
  TO_FN v_f32 v_round_to_##F##_sat(v_f32 x) { return to_f32_##F(to_sat_##F##_f32(x)); }
TO_STORAGE8(f8e4m3fn)
TO_STORAGE8(f8e4m3fnuz)
TO_STORAGE8(f8e5m2)
TO_STORAGE8(f8e5m2fnuz)

#endif
