/* Integer division, remainders, powers, shifts and magnitudes, with nothing undefined: a zero
 * divisor gives 0, and the lowest number divided by -1 wraps to itself. */
#ifndef TAPEOUT_VINT_H
#define TAPEOUT_VINT_H

#include "cvt.h"

/* Written so that no compiler warns of the unsigned instances. */
#define TO_NEGATIVE(a) ((a) < 1 && (a) != 0)
#define TO_IS_SIGNED(T) ((T)-1 < (T)1)

/* One lane. div and trunc_mod cut toward zero (trunc_mod has a's sign); floordiv rounds down and
 * floor_mod has b's sign, as in Python and numpy. pow wraps; a negative exponent gives 1 / a^-b cut
 * toward zero (0, but for a = 1 and -1). */
#define TO_INT_SCALAR(T, M, U)                                                           \
  TO_FN T s_div_##T(T a, T b) {                                                          \
    if (b == 0) return 0;                                                                \
    if (TO_IS_SIGNED(T) && b == (T)-1) return s_neg_##T(a);                              \
    return (T)(a / b);                                                                   \
  }                                                                                      \
  TO_FN T s_trunc_mod_##T(T a, T b) {                                                    \
    if (b == 0 || (TO_IS_SIGNED(T) && b == (T)-1)) return 0;                             \
    return (T)(a % b);                                                                   \
  }                                                                                      \
  TO_FN T s_floor_mod_##T(T a, T b) {                                                    \
    T r = s_trunc_mod_##T(a, b);                                                         \
    return (T)(r != 0 && TO_NEGATIVE((T)(r ^ b)) ? r + b : r);                           \
  }                                                                                      \
  TO_FN T s_floordiv_##T(T a, T b) {                                                     \
    T r = s_trunc_mod_##T(a, b);                                                         \
    return (T)(s_div_##T(a, b) - (T)(r != 0 && TO_NEGATIVE((T)(r ^ b))));                \
  }                                                                                      \
  TO_BIG T s_pow_##T(T a, T b) {                                                         \
    T result = 1;                                                                        \
    if (TO_NEGATIVE(b)) {                                                                \
      if (a != 1 && a != (T)-1) return 0;                                                \
      return b & 1 ? a : 1;                                                              \
    }                                                                                    \
    for (; b; b = (T)(b >> 1), a = s_mul_##T(a, a))                                      \
      if (b & 1) result = s_mul_##T(result, a);                                          \
    return result;                                                                       \
  }                                                                                      \
  TO_FN T s_shift_left_##T(T a, T b) {                                                   \
    return (U)b < sizeof(T) * 8 ? (T)((u64)a << b) : 0;                                  \
  }                                                                                      \
  TO_FN T s_shift_right_##T(T a, T b) { return (U)b < sizeof(T) * 8 ? (T)(a >> b) : 0; } \
  TO_FN T s_abs_##T(T a) { return TO_NEGATIVE(a) ? s_neg_##T(a) : a; }                   \
  TO_FN T s_sign_##T(T a) { return (T)((a > 0) - TO_NEGATIVE(a)); }
TO_INTS(TO_INT_SCALAR)

#define TO_LANEWISE(T, name)                                                             \
  TO_BIG v_##T v_##name##_##T(v_##T a, v_##T b) {                                        \
    lanes_##T x = {a}, y = {b};                                                          \
    for (int i = 0; i < TO_LANES; i++) x.lane[i] = s_##name##_##T(x.lane[i], y.lane[i]); \
    return x.v;                                                                          \
  }

/* Quotients in float: exact, since with n-bit operands a quotient that is no integer lies at least
 * 2^-n away from one in relative terms, and float has 24 bits for n = 16, double 53 for n = 32. */
#define TO_DIVIDE_BY_FLOAT(T, M, F, from_float)                                                   \
  TO_FN v_##T v_div_##T(v_##T a, v_##T b) {                                                       \
    v_##M zero = (v_##M)(b == 0), minus = (v_##M)((b == (T)-1) & ((v_##T)b < 0));                 \
    v_##F q = v_cvt_##T##_##F(a) / v_cvt_##T##_##F(v_blend_##T(zero | minus, v_splat_##T(1), b)); \
    v_##T r = from_float(q);                                                                      \
    r = v_blend_##T(minus, v_neg_##T(r), r);                                                      \
    return v_blend_##T(zero, v_zero_##T(), r);                                                    \
  }                                                                                               \
  TO_FN v_##T v_trunc_mod_##T(v_##T a, v_##T b) {                                                 \
    v_##T r = v_sub_##T(a, v_mul_##T(v_div_##T(a, b), b));                                        \
    return v_blend_##T((v_##M)(b == 0), v_zero_##T(), r);                                         \
  }                                                                                               \
  TO_FN v_##T v_floor_mod_##T(v_##T a, v_##T b) {                                                 \
    v_##T r = v_trunc_mod_##T(a, b);                                                              \
    return v_add_##T(r, v_blend_##T((v_##M)((r != 0) & ((r ^ b) < 0)), b, v_zero_##T()));         \
  }                                                                                               \
  TO_FN v_##T v_floordiv_##T(v_##T a, v_##T b) {                                                  \
    v_##T q = v_div_##T(a, b), r = v_sub_##T(a, v_mul_##T(q, b));                                 \
    return v_add_##T(q, (v_##T)((v_##M)((r ^ b) < 0) & (v_##M)((r != 0) & (b != 0))));            \
  }
TO_DIVIDE_BY_FLOAT(i8, i8, f32, v_cvt_f32_i8)
TO_DIVIDE_BY_FLOAT(u8, i8, f32, v_cvt_f32_u8)
TO_DIVIDE_BY_FLOAT(i16, i16, f32, v_cvt_f32_i16)
TO_DIVIDE_BY_FLOAT(u16, i16, f32, v_cvt_f32_u16)
TO_DIVIDE_BY_FLOAT(i32, i32, f64, v_cvt_f64_i32)
TO_DIVIDE_BY_FLOAT(u32, i32, f64, v_cvt_f64_u32)
#define TO_DIVIDE_BY_LANE(T) \
  TO_LANEWISE(T, div) TO_LANEWISE(T, trunc_mod) TO_LANEWISE(T, floor_mod) TO_LANEWISE(T, floordiv)
TO_DIVIDE_BY_LANE(i64)
TO_DIVIDE_BY_LANE(u64)

/* Shifts: a count below 0 or not below the width gives 0; >> of signed types keeps the sign. */
#define TO_SHIFT(T, M, U)                                                 \
  TO_FN v_##T v_shift_left_##T(v_##T a, v_##T b) {                        \
    v_##U count = (v_##U)b & (U)(sizeof(T) * 8 - 1);                      \
    v_##M inside = v_eq_##U(count, (v_##U)b);                             \
    return v_blend_##T(inside, (v_##T)((v_##U)a << count), v_zero_##T()); \
  }                                                                       \
  TO_FN v_##T v_shift_right_##T(v_##T a, v_##T b) {                       \
    v_##U count = (v_##U)b & (U)(sizeof(T) * 8 - 1);                      \
    v_##M inside = v_eq_##U(count, (v_##U)b);                             \
    return v_blend_##T(inside, a >> (v_##T)count, v_zero_##T());          \
  }
TO_SHIFT(i32, i32, u32)
TO_SHIFT(u32, i32, u32)
TO_SHIFT(i64, i64, u64)
TO_SHIFT(u64, i64, u64)
/* x86 has no shifts of bytes by lane: 8 and 16 bits go through 32. */
#define TO_SHIFT_WIDE(T, U)                                                  \
  TO_FN v_##T v_shift_left_##T(v_##T a, v_##T b) {                           \
    v_u32 count = (v_u32)to_hub_##U((v_##U)b);                               \
    return to_low_##T((v_i32)v_shift_left_u32((v_u32)to_hub_##T(a), count)); \
  }                                                                          \
  TO_FN v_##T v_shift_right_##T(v_##T a, v_##T b) {                          \
    v_##U count = (v_##U)b & (U)(sizeof(T) * 8 - 1);                         \
    v_##T r = to_low_##T(to_hub_##T(a) >> to_hub_##U(count));                \
    return (v_##T)((v_##U)r & (v_##U)(count == (v_##U)b));                   \
  }
TO_SHIFT_WIDE(i8, u8)
TO_SHIFT_WIDE(u8, u8)
TO_SHIFT_WIDE(i16, u16)
TO_SHIFT_WIDE(u16, u16)

/* |a| (the lowest number stays), sign, a^b. */
#define TO_INT_SIGNED(T, M, U)                                             \
  TO_FN v_##T v_abs_##T(v_##T a) { return v_max_##T(a, v_neg_##T(a)); }    \
  TO_FN v_##T v_sign_##T(v_##T a) {                                        \
    return (v_##T)(v_lt_##T(a, v_zero_##T()) - v_gt_##T(a, v_zero_##T())); \
  }
TO_INT_SIGNED(i8, i8, u8)
TO_INT_SIGNED(i16, i16, u16)
TO_INT_SIGNED(i32, i32, u32)
TO_INT_SIGNED(i64, i64, u64)
#define TO_INT_UNSIGNED(T)                     \
  TO_FN v_##T v_abs_##T(v_##T a) { return a; } \
  TO_FN v_##T v_sign_##T(v_##T a) {            \
    return v_min_##T(a, v_splat_##T(1));       \
  }
TO_INT_UNSIGNED(u8)
TO_INT_UNSIGNED(u16)
TO_INT_UNSIGNED(u32)
TO_INT_UNSIGNED(u64)
#define TO_INT_POW(T, M, U) TO_LANEWISE(T, pow)
TO_INTS(TO_INT_POW)

#endif
