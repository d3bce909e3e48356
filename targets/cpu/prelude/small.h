/* Element types below a byte, one per byte in memory, and the two narrowest floats.
 *
 * Integers of 4 and 2 bits travel as i8 and u8; v_round_to_T wraps to T's width and extends its
 * sign, v_round_to_T_sat clamps. f4e2m1 has neither infinity nor NaN: what is too large becomes 6,
 * NaN -0, as in ml_dtypes. f8e8m0 holds powers of two from 2^-127 to 2^127 and NaN; a tie goes to
 * the larger one, and zero and what is negative to NaN. */
#ifndef TAPEOUT_SMALL_H
#define TAPEOUT_SMALL_H

#include "half.h"

typedef u8 f4e2m1;
typedef u8 f8e8m0;

#define TO_SMALL_SIGNED(T, mask, sign)                                                       \
  TO_FN v_i8 v_round_to_##T(v_i8 x) {                                                        \
    return (v_i8)((((v_u8)x & (u8)(mask)) ^ (u8)(sign)) - (u8)(sign));                       \
  }                                                                                          \
  TO_FN v_i8 v_round_to_##T##_sat(v_i8 x) {                                                  \
    return v_max_i8(v_min_i8(x, v_splat_i8((sign) - 1)), v_splat_i8(-(sign)));               \
  }
#define TO_SMALL_UNSIGNED(T, mask)                                                           \
  TO_FN v_u8 v_round_to_##T(v_u8 x) { return x & (u8)(mask); }                               \
  TO_FN v_u8 v_round_to_##T##_sat(v_u8 x) { return v_min_u8(x, v_splat_u8(mask)); }
TO_SMALL_SIGNED(i4, 15, 8)
TO_SMALL_SIGNED(i2, 3, 2)
TO_SMALL_UNSIGNED(u4, 15)
TO_SMALL_UNSIGNED(u2, 3)

/* One mantissa bit, bias 1. */
TO_FN v_f32 to_f32_f4e2m1(v_u8 x) {
  v_i32 bits = to_widen_u8(x);
  v_i32 wide = (v_i32)to_widen_bits(bits & 7, 1, 1);
  return (v_f32)((v_u32)wide | ((v_u32)bits & 8) << 28);
}
TO_FN v_u8 to_f4e2m1_f32(v_f32 x) {
  v_i32 bits = to_round_bits(v_fastmin_f32(v_abs_f32(x), v_splat_f32(6)), 1, 1);
  bits = v_blend_i32(x != x, v_splat_i32(8), bits | (((v_i32)x >> 28) & 8));
  return to_narrow_u8(bits);
}
TO_FN v_u8 to_sat_f4e2m1_f32(v_f32 x) { return to_f4e2m1_f32(x); }

TO_FN v_f32 to_f32_f8e8m0(v_u8 x) {
  v_i32 bits = to_widen_u8(x);
  v_i32 wide = v_blend_i32(bits == 0, v_splat_i32(1 << 22), (v_i32)((v_u32)bits << 23));
  return (v_f32)v_blend_i32(bits == 255, v_splat_i32(0x7FC00000), wide);
}
TO_FN v_u8 to_f8e8m0_f32(v_f32 x) {
  v_i32 bits = (v_i32)x, exponent = (bits + (1 << 22)) >> 23;
  /* below 2^-126 the leading bit tells: 0.75 * 2^-126 and more is nearer to 2^-126 */
  exponent = v_blend_i32(bits < (1 << 23), (v_i32)(bits >= (3 << 21)) & 1, exponent);
  v_i32 bad = (bits <= 0) | (bits >= 0x7F800000) | (exponent > 254);
  return to_narrow_u8(v_blend_i32(bad, v_splat_i32(255), exponent));
}
TO_FN v_u8 to_sat_f8e8m0_f32(v_f32 x) {
  return to_f8e8m0_f32(v_fastmin_f32(x, v_splat_f32(0x1p127f)));
}
TO_STORAGE8(f4e2m1)
TO_STORAGE8(f8e8m0)

#endif
