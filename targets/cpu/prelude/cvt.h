/* Conversions v_cvt_S_T from S to T, between all pairs, and saturating ones to 8 and 16 bits.
 *
 * Integer to integer wraps; to float rounds to nearest even; float to integer cuts toward zero, and
 * to 8 and 16 bits goes by way of i32 and wraps, as numpy does. A float beyond the integer's range,
 * or NaN, gives an unspecified value (it depends on the instruction set). v_cvt_T_bool is x != 0
 * (NaN is true). Every step doubles or halves the width: gcc takes wider jumps lane by lane. */
#ifndef TAPEOUT_CVT_H
#define TAPEOUT_CVT_H

#include "vec.h"

#define TO_STEP(x, T) __builtin_convertvector(x, v_##T)

/* The 32-bit hub, and each integer type of up to 32 bits from its low bits. */
#if TO_AVX512
typedef char to_xmm_i8 __attribute__((vector_size(16)));
TO_FN to_xmm_i8 to_xmm_of(v_u8 x) { return (to_xmm_i8)x; }
#elif TO_AVX2
typedef char to_xmm_i8 __attribute__((vector_size(16)));
typedef i64 to_xmm_i64 __attribute__((vector_size(16)));
TO_FN to_xmm_i8 to_xmm_of(v_u8 x) { return (to_xmm_i8)(to_xmm_i64){(i64)x, 0}; }
#endif
#if TO_AVX512
TO_FN v_i32 to_hub_i8(v_i8 x) {
  return __builtin_ia32_pmovsxbd512_mask(to_xmm_of((v_u8)x), v_zero_i32(), (u16)-1);
}
TO_FN v_i32 to_hub_u8(v_u8 x) {
  return __builtin_ia32_pmovzxbd512_mask(to_xmm_of(x), v_zero_i32(), (u16)-1);
}
#elif TO_AVX2
TO_FN v_i32 to_hub_i8(v_i8 x) { return __builtin_ia32_pmovsxbd256(to_xmm_of((v_u8)x)); }
TO_FN v_i32 to_hub_u8(v_u8 x) { return __builtin_ia32_pmovzxbd256(to_xmm_of(x)); }
#else
TO_FN v_i32 to_hub_i8(v_i8 x) { return TO_STEP(TO_STEP(x, i16), i32); }
TO_FN v_i32 to_hub_u8(v_u8 x) { return (v_i32)TO_STEP(TO_STEP(x, u16), u32); }
#endif
TO_FN v_i32 to_hub_i16(v_i16 x) { return TO_STEP(x, i32); }
TO_FN v_i32 to_hub_u16(v_u16 x) { return (v_i32)TO_STEP(x, u32); }
TO_FN v_u16 to_low_u16(v_i32 x) { return TO_STEP((v_u32)x, u16); }
TO_FN v_i16 to_low_i16(v_i32 x) { return (v_i16)to_low_u16(x); }
#if TO_AVX512
TO_FN v_u8 to_low_u8(v_i32 x) {
  return (v_u8)__builtin_ia32_pmovdb512_mask(x, to_xmm_of(v_zero_u8()), (u16)-1);
}
#else
TO_FN v_u8 to_low_u8(v_i32 x) { return TO_STEP(to_low_u16(x), u8); }
#endif
TO_FN v_i8 to_low_i8(v_i32 x) { return (v_i8)to_low_u8(x); }
TO_FN v_i32 to_low_i32(v_i32 x) { return x; }
TO_FN v_u32 to_low_u32(v_i32 x) { return (v_u32)x; }

#define TO_CVT(S, T, expression) \
  TO_FN v_##T v_cvt_##S##_##T(v_##S x) { return expression; }
#define TO_CVT_LOW(S, hub)        \
  TO_CVT(S, i8, to_low_i8(hub))   \
  TO_CVT(S, u8, to_low_u8(hub))   \
  TO_CVT(S, i16, to_low_i16(hub)) \
  TO_CVT(S, u16, to_low_u16(hub)) \
  TO_CVT(S, i32, to_low_i32(hub))
#define TO_CVT_FROM_SMALL(S)                         \
  TO_CVT_LOW(S, to_hub_##S(x))                       \
  TO_CVT(S, u32, (v_u32)to_hub_##S(x))               \
  TO_CVT(S, i64, TO_STEP(to_hub_##S(x), i64))        \
  TO_CVT(S, u64, (v_u64)TO_STEP(to_hub_##S(x), i64)) \
  TO_CVT(S, f32, TO_STEP(to_hub_##S(x), f32))        \
  TO_CVT(S, f64, TO_STEP(to_hub_##S(x), f64))
TO_CVT_FROM_SMALL(i8)
TO_CVT_FROM_SMALL(u8)
TO_CVT_FROM_SMALL(i16)
TO_CVT_FROM_SMALL(u16)

#define TO_CVT_FROM_32(S)                \
  TO_CVT_LOW(S, (v_i32)x)                \
  TO_CVT(S, u32, (v_u32)x)               \
  TO_CVT(S, i64, (v_i64)TO_STEP(x, i64)) \
  TO_CVT(S, u64, (v_u64)TO_STEP(x, i64)) \
  TO_CVT(S, f32, TO_STEP(x, f32))        \
  TO_CVT(S, f64, TO_STEP(x, f64))
TO_CVT_FROM_32(i32)
TO_CVT_FROM_32(u32)

#define TO_CVT_FROM_64(S)                       \
  TO_CVT_LOW(S, TO_STEP((v_i64)x, i32))         \
  TO_CVT(S, u32, (v_u32)TO_STEP((v_i64)x, i32)) \
  TO_CVT(S, i64, (v_i64)x)                      \
  TO_CVT(S, u64, (v_u64)x)                      \
  TO_CVT(S, f32, TO_STEP(x, f32))               \
  TO_CVT(S, f64, TO_STEP(x, f64))
TO_CVT_FROM_64(i64)
TO_CVT_FROM_64(u64)

#define TO_CVT_FROM_FLOAT(S)                    \
  TO_CVT_LOW(S, TO_STEP(x, i32))                \
  TO_CVT(S, u32, TO_STEP(TO_STEP(x, i64), u32)) \
  TO_CVT(S, i64, TO_STEP(x, i64))               \
  TO_CVT(S, u64, TO_STEP(x, u64))
TO_CVT_FROM_FLOAT(f32)
TO_CVT_FROM_FLOAT(f64)
TO_CVT(f32, f32, x)
TO_CVT(f32, f64, TO_STEP(x, f64))
TO_CVT(f64, f32, TO_STEP(x, f32))
TO_CVT(f64, f64, x)

#define TO_CVT_BOOL(T, M, U) \
  TO_FN v_u8 v_cvt_##T##_bool(v_##T x) { return v_bool_##T(v_ne_##T(x, v_zero_##T())); }
TO_ALL(TO_CVT_BOOL)

#include "sat.h"

#endif
