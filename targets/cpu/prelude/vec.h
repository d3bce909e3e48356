/* Vectors of TO_LANES lanes of every element type: types, loads, stores, compares, selects,
 * minimum and maximum, reductions.
 *
 * Every type has the same number of lanes, so that one loop index drives them all; a 64-bit type
 * then spans two registers. Arithmetic is the compiler's own on vectors (+ - * & | ^ ~). It is
 * NOT to be used for three things: signed overflow (undefined in C: use v_add, v_sub, v_mul),
 * integer division (vint.h), and compares of 64-bit types (gcc takes them lane by lane: use v_lt
 * and its kin, which return the same mask).
 *
 * A mask is a vector of signed integers as wide as the lanes compared, 0 or -1. A stored bool is
 * uint8_t 0 or 1, hence v_u8.
 *
 * Flags that callers need: -O2 -ffp-contract=off -fno-math-errno -fno-trapping-math. The first
 * keeps a*b+c two roundings, so that results do not depend on what a compiler chose to fuse. */
#ifndef TAPEOUT_VEC_H
#define TAPEOUT_VEC_H

#include <stdint.h>

/* One of four instruction sets, from the compiler's -march; TO_GENERIC forces plain C. */
#if defined(TO_GENERIC)
#define TO_LANES 4
#elif defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    defined(__AVX512DQ__)
#define TO_AVX512 1
#define TO_LANES 16
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define TO_AVX2 1
#define TO_LANES 8
#elif defined(__aarch64__)
#define TO_NEON 1
#define TO_LANES 4
#include <arm_neon.h>
#else
#define TO_GENERIC 1
#define TO_LANES 4
#endif

/* Passing a 64-byte vector "changes the ABI" without AVX-512; everything here is inlined. */
#pragma GCC diagnostic ignored "-Wpsabi"

#define TO_FN static inline __attribute__((always_inline, unused))
#define TO_BIG static inline __attribute__((unused)) /* too long to inline at every use */

typedef float f32;
typedef double f64;
typedef int8_t i8;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* X(element, signed of the same width, unsigned of the same width) */
#define TO_NARROW_INTS(X) \
  X(i8, i8, u8) X(i16, i16, u16) X(i32, i32, u32) X(u8, i8, u8) X(u16, i16, u16) X(u32, i32, u32)
#define TO_WIDE_INTS(X) X(i64, i64, u64) X(u64, i64, u64)
#define TO_INTS(X) TO_NARROW_INTS(X) TO_WIDE_INTS(X)
#define TO_NARROW(X) TO_NARROW_INTS(X) X(f32, i32, u32)
#define TO_WIDE(X) TO_WIDE_INTS(X) X(f64, i64, u64)
#define TO_ALL(X) TO_NARROW(X) TO_WIDE(X)

/* h_T has half the lanes: for a 64-bit T it is what one register holds. */
#define TO_TYPES(T, M, U)                                                  \
  typedef T v_##T __attribute__((vector_size(sizeof(T) * TO_LANES)));      \
  typedef T h_##T __attribute__((vector_size(sizeof(T) * TO_LANES / 2)));  \
  typedef v_##T v_##T##_at __attribute__((aligned(sizeof(T)), may_alias)); \
  typedef union {                                                          \
    v_##T v;                                                               \
    h_##T h[2];                                                            \
    T lane[TO_LANES];                                                      \
  } lanes_##T;
TO_ALL(TO_TYPES)

/* Bits of one type read as another, both of one size. */
#define TO_BITS(type, x) ((type)(x))

/* F(0), F(1), ... one per lane: an initialiser that gcc turns into shuffles or a broadcast. */
#if TO_LANES == 16
#define TO_EACH(F)                                                                               \
  F(0), F(1), F(2), F(3), F(4), F(5), F(6), F(7), F(8), F(9), F(10), F(11), F(12), F(13), F(14), \
      F(15)
#elif TO_LANES == 8
#define TO_EACH(F) F(0), F(1), F(2), F(3), F(4), F(5), F(6), F(7)
#else
#define TO_EACH(F) F(0), F(1), F(2), F(3)
#endif
#define TO_LANE_X(i) x
#define TO_LANE_COUNTED(i) i
#define TO_LANE_STRIDED(i) p[(i) * stride]
#define TO_LANE_INDEXED(i) p[index[i]]
#define TO_LANE_SCATTERED(i) (p[(i) * stride] = x[i])

/* Load and store, unaligned; splat; base, base + 1, ...; lane i from or to p[i * stride]; lane i
 * from p[index[i]]. */
#define TO_MEMORY(T, M, U)                                                                       \
  TO_FN v_##T v_load_##T(const T *p) { return *(const v_##T##_at *)p; }                          \
  TO_FN void v_store_##T(T *p, v_##T x) { *(v_##T##_at *)p = x; }                                \
  TO_FN v_##T v_splat_##T(T x) { return (v_##T){TO_EACH(TO_LANE_X)}; }                           \
  TO_FN v_##T v_zero_##T(void) { return (v_##T){0}; }                                            \
  TO_FN T v_lane_##T(v_##T x, int i) { return x[i]; }                                            \
  TO_FN v_##T v_gather_##T(const T *p, i64 stride) { return (v_##T){TO_EACH(TO_LANE_STRIDED)}; } \
  TO_FN v_##T v_gather_idx_##T(const T *p, v_i64 index) {                                        \
    return (v_##T){TO_EACH(TO_LANE_INDEXED)};                                                    \
  }                                                                                              \
  TO_FN v_##T v_gather_idx32_##T(const T *p, v_i32 index) {                                      \
    return (v_##T){TO_EACH(TO_LANE_INDEXED)};                                                    \
  }                                                                                              \
  TO_FN void v_scatter_##T(T *p, i64 stride, v_##T x) {                                          \
    (void)(TO_EACH(TO_LANE_SCATTERED));                                                          \
  }
TO_ALL(TO_MEMORY)


/* base, base + 1, ... ; in floats each lane is rounded once, as (T)i + base. */
#define TO_IOTA(T, M, U) \
  TO_FN v_##T v_iota_##T(T base) { return (v_##T){TO_EACH(TO_LANE_COUNTED)} + v_splat_##T(base); }
TO_IOTA(f32, i32, u32)
TO_IOTA(f64, i64, u64)
#define TO_IOTA_INT(T, M, U)                                                  \
  TO_FN v_##T v_iota_##T(T base) {                                            \
    return (v_##T)((v_##U){TO_EACH(TO_LANE_COUNTED)} + v_splat_##U((U)base)); \
  }
TO_INTS(TO_IOTA_INT)

/* Compares give masks. The 64-bit types go by halves: gcc would take whole ones lane by lane. */
#define TO_COMPARE(T, M, name, op) \
  TO_FN v_##M v_##name##_##T(v_##T a, v_##T b) { return (v_##M)(a op b); }
#define TO_COMPARE_HALVES(T, M, name, op)                  \
  TO_FN v_##M v_##name##_##T(v_##T a, v_##T b) {           \
    lanes_##T x = {a}, y = {b};                            \
    lanes_##M r;                                           \
    for (int i = 0; i < 2; i++) r.h[i] = x.h[i] op y.h[i]; \
    return r.v;                                            \
  }
#define TO_SIX(DEFINE, T, M)                                   \
  DEFINE(T, M, lt, <) DEFINE(T, M, le, <=) DEFINE(T, M, gt, >) \
  DEFINE(T, M, ge, >=) DEFINE(T, M, eq, ==) DEFINE(T, M, ne, !=)
#define TO_COMPARES(T, M, U) TO_SIX(TO_COMPARE, T, M)
#define TO_COMPARES_HALVES(T, M, U) TO_SIX(TO_COMPARE_HALVES, T, M)
TO_NARROW(TO_COMPARES)
TO_WIDE(TO_COMPARES_HALVES)

/* Widths change one doubling at a time: gcc takes wider jumps lane by lane. */
#define TO_TO __builtin_convertvector
TO_FN v_u8 v_u8_of_i8(v_i8 m) { return (v_u8)m; }
TO_FN v_u8 v_u8_of_i16(v_i16 m) { return TO_TO((v_u16)m, v_u8); }
TO_FN v_u8 v_u8_of_i32(v_i32 m) { return v_u8_of_i16(TO_TO(m, v_i16)); }
TO_FN v_u8 v_u8_of_i64(v_i64 m) { return v_u8_of_i32(TO_TO(m, v_i32)); }
TO_FN v_i8 v_i8_of_u8(v_u8 x) { return (v_i8)x; }
TO_FN v_i16 v_i16_of_u8(v_u8 x) { return TO_TO((v_i8)x, v_i16); }
TO_FN v_i32 v_i32_of_u8(v_u8 x) { return TO_TO(v_i16_of_u8(x), v_i32); }
TO_FN v_i64 v_i64_of_u8(v_u8 x) { return TO_TO(v_i32_of_u8(x), v_i64); }

/* v_bool_T: the mask of a compare of T as stored bools, 0 or 1.
 * v_mask_T: stored bools as the mask for T; any non-zero byte counts as true.
 * v_blend_T: a where the mask is set, else b, bit by bit.
 * v_sel_T: a where cond is not zero, else b. */
#define TO_SELECT(T, M, U)                                                       \
  TO_FN v_u8 v_bool_##T(v_##M mask) { return v_u8_of_##M(mask) & 1; }            \
  TO_FN v_##M v_mask_##T(v_u8 cond) { return v_##M##_of_u8((v_u8)(cond != 0)); } \
  TO_FN v_##T v_blend_##T(v_##M mask, v_##T a, v_##T b) {                        \
    return (v_##T)((mask & (v_##M)a) | (~mask & (v_##M)b));                      \
  }                                                                              \
  TO_FN v_##T v_sel_##T(v_u8 cond, v_##T a, v_##T b) {                           \
    return v_blend_##T(v_mask_##T(cond), a, b);                                  \
  }
TO_ALL(TO_SELECT)

/* Sum, difference and product; integers wrap. Scalar twins are named s_. */
#define TO_ARITH(T, M, U)                                                          \
  TO_FN v_##T v_add_##T(v_##T a, v_##T b) { return (v_##T)((v_##U)a + (v_##U)b); } \
  TO_FN v_##T v_sub_##T(v_##T a, v_##T b) { return (v_##T)((v_##U)a - (v_##U)b); } \
  TO_FN v_##T v_mul_##T(v_##T a, v_##T b) { return (v_##T)((v_##U)a * (v_##U)b); } \
  TO_FN v_##T v_neg_##T(v_##T a) { return (v_##T)(-(v_##U)a); }                    \
  TO_FN T s_add_##T(T a, T b) { return (T)((u64)a + (u64)b); }                     \
  TO_FN T s_sub_##T(T a, T b) { return (T)((u64)a - (u64)b); }                     \
  TO_FN T s_mul_##T(T a, T b) { return (T)((u64)a * (u64)b); }                     \
  TO_FN T s_neg_##T(T a) { return (T)(0 - (u64)a); }
TO_INTS(TO_ARITH)
#define TO_ARITH_FLOAT(T, M, U)                             \
  TO_FN v_##T v_add_##T(v_##T a, v_##T b) { return a + b; } \
  TO_FN v_##T v_sub_##T(v_##T a, v_##T b) { return a - b; } \
  TO_FN v_##T v_mul_##T(v_##T a, v_##T b) { return a * b; } \
  TO_FN v_##T v_div_##T(v_##T a, v_##T b) { return a / b; } \
  TO_FN v_##T v_neg_##T(v_##T a) { return -a; }             \
  TO_FN T s_add_##T(T a, T b) { return a + b; }             \
  TO_FN T s_sub_##T(T a, T b) { return a - b; }             \
  TO_FN T s_mul_##T(T a, T b) { return a * b; }             \
  TO_FN T s_div_##T(T a, T b) { return a / b; }             \
  TO_FN T s_neg_##T(T a) { return -a; }
TO_ARITH_FLOAT(f32, i32, u32)
TO_ARITH_FLOAT(f64, i64, u64)

/* v_fastmax: a > b ? a : b, so b where either is NaN and for two zeros. v_max: the same, but a NaN
 * in a wins (numpy's maximum). v_fastmin and v_min likewise with <. Integers: one meaning. */
#define TO_MINMAX_PLAIN(T, M, U)                                                            \
  TO_FN v_##T v_fastmax_##T(v_##T a, v_##T b) { return v_blend_##T(v_gt_##T(a, b), a, b); } \
  TO_FN v_##T v_fastmin_##T(v_##T a, v_##T b) { return v_blend_##T(v_lt_##T(a, b), a, b); }
TO_INTS(TO_MINMAX_PLAIN)
TO_MINMAX_PLAIN(f64, i64, u64)
#if TO_AVX512
TO_FN v_f32 v_fastmax_f32(v_f32 a, v_f32 b) {
  return __builtin_ia32_maxps512_mask(a, b, a, (u16)-1, 4);
}
TO_FN v_f32 v_fastmin_f32(v_f32 a, v_f32 b) {
  return __builtin_ia32_minps512_mask(a, b, a, (u16)-1, 4);
}
#elif TO_AVX2
TO_FN v_f32 v_fastmax_f32(v_f32 a, v_f32 b) { return __builtin_ia32_maxps256(a, b); }
TO_FN v_f32 v_fastmin_f32(v_f32 a, v_f32 b) { return __builtin_ia32_minps256(a, b); }
#elif defined(__SSE__)
TO_FN v_f32 v_fastmax_f32(v_f32 a, v_f32 b) { return __builtin_ia32_maxps(a, b); }
TO_FN v_f32 v_fastmin_f32(v_f32 a, v_f32 b) { return __builtin_ia32_minps(a, b); }
#else
TO_MINMAX_PLAIN(f32, i32, u32)
#endif
#define TO_MINMAX_INT(T, M, U)                                            \
  TO_FN v_##T v_max_##T(v_##T a, v_##T b) { return v_fastmax_##T(a, b); } \
  TO_FN v_##T v_min_##T(v_##T a, v_##T b) { return v_fastmin_##T(a, b); } \
  TO_FN T s_max_##T(T a, T b) { return a > b ? a : b; }                   \
  TO_FN T s_min_##T(T a, T b) { return a < b ? a : b; }
TO_INTS(TO_MINMAX_INT)
#define TO_MINMAX_FLOAT(T, M, U)                                  \
  TO_FN v_##T v_max_##T(v_##T a, v_##T b) {                       \
    return v_blend_##T(v_ne_##T(a, a), a, v_fastmax_##T(a, b));   \
  }                                                               \
  TO_FN v_##T v_min_##T(v_##T a, v_##T b) {                       \
    return v_blend_##T(v_ne_##T(a, a), a, v_fastmin_##T(a, b));   \
  }                                                               \
  TO_FN T s_max_##T(T a, T b) { return a > b || a != a ? a : b; } \
  TO_FN T s_min_##T(T a, T b) { return a < b || a != a ? a : b; }
TO_MINMAX_FLOAT(f32, i32, u32)
TO_MINMAX_FLOAT(f64, i64, u64)

/* Masks of the lanes that are NaN, or an infinity. */
#define TO_CLASSES(T, M, U)                                    \
  TO_FN v_##M v_is_nan_##T(v_##T x) { return v_ne_##T(x, x); } \
  TO_FN v_##M v_is_inf_##T(v_##T x) {                          \
    return v_eq_##T(x, v_splat_##T((T)__builtin_inf())) |      \
           v_eq_##T(x, v_splat_##T(-(T)__builtin_inf()));      \
  }
TO_CLASSES(f32, i32, u32)
TO_CLASSES(f64, i64, u64)

#include "tail.h"
#include "reduce.h"
#include "fma.h"
#include "dot.h"
#include "dot2.h"
#include "zip.h"
#include "lookup.h"

#endif
