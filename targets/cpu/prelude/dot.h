/* Sums of four neighbouring products of bytes, added to i32 lanes: c[i] + sum of a[4i+j] * b[4i+j]
 * over j. Four bytes travel in one i32 lane, in the order of memory. Every sum is exact, and wraps
 * at 32 bits, on every instruction set. Included by vec.h. */
#ifndef TAPEOUT_DOT_H
#define TAPEOUT_DOT_H

/* Four bytes from p; four of which n are there, the others 0; four for each lane. */
TO_FN i32 to_load_quad(const void *p) {
  i32 x;
  __builtin_memcpy(&x, p, 4);
  return x;
}
TO_FN i32 to_load_quad_n(const void *p, i64 n) {
  u8 quad[4] = {0};
  for (i64 j = 0; j < n && j < 4; j++) quad[j] = ((const u8 *)p)[j];
  return to_load_quad(quad);
}
TO_FN v_i32 v_load_quads(const void *p) { return *(const v_i32_at *)p; }
TO_FN void v_store_quads(void *p, v_i32 x) { *(v_i32_at *)p = x; }

#if TO_AVX512 || TO_AVX2 || defined(__SSE2__)
/* Without an instruction for all four: the bytes at even and at odd places, widened to 16 bits,
 * where two products and their sum are exact. */
typedef i16 to_pairs __attribute__((vector_size(4 * TO_LANES)));
typedef u16 to_upairs __attribute__((vector_size(4 * TO_LANES)));
typedef char to_chars __attribute__((vector_size(4 * TO_LANES)));
TO_FN to_pairs to_even_i8(v_i32 x) { return (to_pairs)((to_upairs)x << 8) >> 8; }
TO_FN to_pairs to_even_u8(v_i32 x) { return (to_pairs)x & 255; }
TO_FN to_pairs to_odd_i8(v_i32 x) { return (to_pairs)x >> 8; }
TO_FN to_pairs to_odd_u8(v_i32 x) { return (to_pairs)((to_upairs)x >> 8); }
TO_FN v_i32 to_pair_sums(to_pairs a, to_pairs b) {
#if TO_AVX512
  return (v_i32)__builtin_ia32_pmaddwd512_mask(a, b, (v_i32){0}, (u16)-1);
#elif TO_AVX2
  return (v_i32)__builtin_ia32_pmaddwd256(a, b);
#else
  return (v_i32)__builtin_ia32_pmaddwd128(a, b);
#endif
}
#define TO_DOT4_WIDENED(A, B)                                       \
  TO_FN v_i32 v_dot4_##A##_##B(v_i32 a, v_i32 b, v_i32 c) {         \
    v_i32 even = to_pair_sums(to_even_##A(a), to_even_##B(b));      \
    v_i32 odd = to_pair_sums(to_odd_##A(a), to_odd_##B(b));         \
    return v_add_i32(c, v_add_i32(even, odd));                      \
  }
#else
TO_FN v_i32 to_byte_i8(v_i32 x, int j) { return (v_i32)((v_u32)x << (24 - 8 * j)) >> 24; }
TO_FN v_i32 to_byte_u8(v_i32 x, int j) { return (v_i32)((v_u32)x >> (8 * j)) & 255; }
#define TO_DOT4_WIDENED(A, B)                                                                     \
  TO_FN v_i32 v_dot4_##A##_##B(v_i32 a, v_i32 b, v_i32 c) {                                       \
    for (int j = 0; j < 4; j++)                                                                   \
      c = v_add_i32(c, v_mul_i32(to_byte_##A(a, j), to_byte_##B(b, j)));                          \
    return c;                                                                                     \
  }
#endif

#if TO_AVX512 && defined(__AVX512VNNI__)
TO_FN v_i32 v_dot4_u8_i8(v_i32 a, v_i32 b, v_i32 c) {
  return (v_i32)__builtin_ia32_vpdpbusd_v16si(c, a, b);
}
TO_FN v_i32 v_dot4_i8_u8(v_i32 a, v_i32 b, v_i32 c) { return v_dot4_u8_i8(b, a, c); }
#elif TO_NEON && defined(__ARM_FEATURE_DOTPROD)
TO_FN v_i32 to_dot4_signed(v_i32 a, v_i32 b, v_i32 c) {
  return (v_i32)vdotq_s32((int32x4_t)c, (int8x16_t)a, (int8x16_t)b);
}
/* a is 128 + (a ^ 128) with the right side signed; the sum of 128 b is the same for every row of a
 * product, so that the compiler computes it once. */
TO_FN v_i32 v_dot4_u8_i8(v_i32 a, v_i32 b, v_i32 c) {
  const v_i32 half = v_splat_i32(0x40404040), flip = v_splat_i32((i32)0x80808080);
  v_i32 rest = to_dot4_signed(half, b, to_dot4_signed(half, b, v_zero_i32()));
  return v_add_i32(to_dot4_signed(a ^ flip, b, c), rest);
}
TO_FN v_i32 v_dot4_i8_u8(v_i32 a, v_i32 b, v_i32 c) { return v_dot4_u8_i8(b, a, c); }
#else
TO_DOT4_WIDENED(u8, i8)
TO_DOT4_WIDENED(i8, u8)
#endif
TO_DOT4_WIDENED(i8, i8)
TO_DOT4_WIDENED(u8, u8)

/* b is below 128: two neighbouring products and their sum fit 16 bits, and b is signed as well. */
#if TO_AVX512 && !defined(__AVX512VNNI__)
TO_FN v_i32 v_dot4_i8_u7(v_i32 a, v_i32 b, v_i32 c) {
  const to_pairs ones = (to_pairs)v_splat_i32(0x00010001);
  to_pairs sums = (to_pairs)__builtin_ia32_pmaddubsw512_mask((to_chars)b, (to_chars)a, ones, (u32)-1);
  return v_add_i32(c, to_pair_sums(sums, ones));
}
#elif TO_AVX2
TO_FN v_i32 v_dot4_i8_u7(v_i32 a, v_i32 b, v_i32 c) {
  const to_pairs ones = (to_pairs)v_splat_i32(0x00010001);
  to_pairs sums = (to_pairs)__builtin_ia32_pmaddubsw256((to_chars)b, (to_chars)a);
  return v_add_i32(c, to_pair_sums(sums, ones));
}
#elif TO_NEON && defined(__ARM_FEATURE_DOTPROD)
TO_FN v_i32 v_dot4_i8_u7(v_i32 a, v_i32 b, v_i32 c) { return to_dot4_signed(a, b, c); }
#elif TO_NEON
TO_FN v_i32 v_dot4_i8_u7(v_i32 a, v_i32 b, v_i32 c) {
  const int8x16_t x = (int8x16_t)a, y = (int8x16_t)b;
  const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(y));
  const int16x8_t high = vmull_high_s8(x, y);
  return (v_i32)vpadalq_s16((int32x4_t)c, vpaddq_s16(low, high));
}
#else
TO_FN v_i32 v_dot4_i8_u7(v_i32 a, v_i32 b, v_i32 c) { return v_dot4_i8_u8(a, b, c); }
#endif

#endif
