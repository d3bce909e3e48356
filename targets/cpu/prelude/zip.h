/* Vectors zipped: squares transposed, and lines of bytes interleaved for dots. Included by vec.h. */
#ifndef TAPEOUT_ZIP_H
#define TAPEOUT_ZIP_H

/* The first halves, and the last ones, of two vectors: a[0], b[0], a[1], b[1], ... */
#if TO_LANES == 16
#define TO_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define TO_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif TO_LANES == 8
#define TO_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define TO_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define TO_ZIP_LOW 0, 4, 1, 5
#define TO_ZIP_HIGH 2, 6, 3, 7
#endif

/* The square x[TO_LANES] with rows as columns. Zipping rows r and r + TO_LANES / 2 moves one bit of
 * a column's number to that of its row; after all bits have moved they have changed places. */
#define TO_ZIP_PAIR(r)                                                                     \
  to[2 * (r)] = __builtin_shufflevector(x[r], x[(r) + TO_LANES / 2], TO_ZIP_LOW),          \
           to[2 * (r) + 1] = __builtin_shufflevector(x[r], x[(r) + TO_LANES / 2], TO_ZIP_HIGH)
#if TO_LANES == 16
#define TO_ZIP_SQUARE                                                                   \
  TO_ZIP_PAIR(0), TO_ZIP_PAIR(1), TO_ZIP_PAIR(2), TO_ZIP_PAIR(3), TO_ZIP_PAIR(4),       \
      TO_ZIP_PAIR(5), TO_ZIP_PAIR(6), TO_ZIP_PAIR(7)
#elif TO_LANES == 8
#define TO_ZIP_SQUARE TO_ZIP_PAIR(0), TO_ZIP_PAIR(1), TO_ZIP_PAIR(2), TO_ZIP_PAIR(3)
#else
#define TO_ZIP_SQUARE TO_ZIP_PAIR(0), TO_ZIP_PAIR(1)
#endif
#define TO_TRANSPOSE(T, M, U)                                           \
  TO_FN void to_zip_rows_##T(v_##T *to, const v_##T *x) { TO_ZIP_SQUARE; } \
  TO_FN void v_transpose_##T(v_##T *x) {                                \
    v_##T y[TO_LANES];                                                  \
    to_zip_rows_##T(y, x), to_zip_rows_##T(x, y);                       \
    if (TO_LANES == 8) {                                                \
      to_zip_rows_##T(y, x);                                            \
      for (int r = 0; r < TO_LANES; r++) x[r] = y[r];                   \
    } else if (TO_LANES == 16) {                                        \
      to_zip_rows_##T(y, x), to_zip_rows_##T(x, y);                     \
    }                                                                   \
  }
TO_ALL(TO_TRANSPOSE)

/* Lines of 4 TO_LANES bytes, zipped 16 bytes at a time, as the instructions do. */
typedef u8 to_line __attribute__((vector_size(4 * TO_LANES)));
typedef u16 to_line_pairs __attribute__((vector_size(4 * TO_LANES)));
#define TO_ZIP_4(n, at) \
  (at), (n) + (at), (at) + 1, (n) + (at) + 1, (at) + 2, (n) + (at) + 2, (at) + 3, (n) + (at) + 3
#define TO_ZIP_8(n, at) TO_ZIP_4(n, at), TO_ZIP_4(n, (at) + 4)
#if TO_LANES == 16
#define TO_ZIP_BYTES(at) \
  TO_ZIP_8(64, at), TO_ZIP_8(64, 16 + (at)), TO_ZIP_8(64, 32 + (at)), TO_ZIP_8(64, 48 + (at))
#define TO_ZIP_PAIRS(at) \
  TO_ZIP_4(32, at), TO_ZIP_4(32, 8 + (at)), TO_ZIP_4(32, 16 + (at)), TO_ZIP_4(32, 24 + (at))
#elif TO_LANES == 8
#define TO_ZIP_BYTES(at) TO_ZIP_8(32, at), TO_ZIP_8(32, 16 + (at))
#define TO_ZIP_PAIRS(at) TO_ZIP_4(16, at), TO_ZIP_4(16, 8 + (at))
#else
#define TO_ZIP_BYTES(at) TO_ZIP_8(16, at)
#define TO_ZIP_PAIRS(at) TO_ZIP_4(8, at)
#endif
TO_FN to_line to_zip_low(to_line a, to_line b) {
  return __builtin_shufflevector(a, b, TO_ZIP_BYTES(0));
}
TO_FN to_line to_zip_high(to_line a, to_line b) {
  return __builtin_shufflevector(a, b, TO_ZIP_BYTES(8));
}

/* 4 TO_LANES rows of TO_LANES bytes as TO_LANES lines, the columns. The rows 16 l to 16 l + 15 go
 * into the 16 bytes l of every line, where they are a square for the zips of v_transpose: of 16
 * rows of a vector of 16 bytes; of pairs of rows, or fours, of a shorter one. */
typedef u8 to_piece __attribute__((vector_size(16), may_alias));
#if TO_AVX512
typedef int to_quarter __attribute__((vector_size(16)));
#define TO_JOIN(x, piece, at) \
  __builtin_ia32_inserti32x4_mask(x, (to_quarter)(piece), at, (v_i32){0}, 0xFFFF)
TO_FN to_line to_join_pieces(const to_piece *p) {
  v_i32 x = __builtin_ia32_si512_si((to_quarter)p[0]);
  x = TO_JOIN(x, p[16], 1), x = TO_JOIN(x, p[32], 2), x = TO_JOIN(x, p[48], 3);
  return (to_line)x;
}
#elif TO_LANES == 8
TO_FN to_line to_join_pieces(const to_piece *p) {
  typedef long long to_halves __attribute__((vector_size(16)));
  return (to_line)__builtin_shufflevector((to_halves)p[0], (to_halves)p[8], 0, 1, 2, 3);
}
#else
TO_FN to_line to_join_pieces(const to_piece *p) { return (to_line)p[0]; }
#endif
TO_FN void to_zip_lines(to_line *to, const to_line *x) {
#pragma GCC unroll 8
  for (int r = 0; r < TO_LANES / 2; r++) {
    to[2 * r] = to_zip_low(x[r], x[r + TO_LANES / 2]);
    to[2 * r + 1] = to_zip_high(x[r], x[r + TO_LANES / 2]);
  }
}
TO_FN void v_transpose_lines(v_i32 *lines, const void *rows) {
  to_line x[TO_LANES], y[TO_LANES];
#pragma GCC unroll 16
  for (int r = 0; r < TO_LANES; r++) x[r] = to_join_pieces((const to_piece *)rows + r);
  to_zip_lines(y, x), to_zip_lines(x, y), to_zip_lines(y, x), to_zip_lines(x, y);
#pragma GCC unroll 16
  for (int r = 0; r < TO_LANES; r++) lines[r] = (v_i32)x[r];
}

/* Four lines of bytes to four vectors with a byte of each line in a lane. Lane 4 b + i of x[j] gets
 * the bytes 16 b + 4 j + i: what the zips leave. */
TO_FN void v_interleave(v_i32 *x) {
  const to_line a = (to_line)x[0], b = (to_line)x[1], c = (to_line)x[2], d = (to_line)x[3];
  const to_line_pairs ab = (to_line_pairs)to_zip_low(a, b), cd = (to_line_pairs)to_zip_low(c, d);
  const to_line_pairs high_ab = (to_line_pairs)to_zip_high(a, b);
  const to_line_pairs high_cd = (to_line_pairs)to_zip_high(c, d);
  x[0] = (v_i32)__builtin_shufflevector(ab, cd, TO_ZIP_PAIRS(0));
  x[1] = (v_i32)__builtin_shufflevector(ab, cd, TO_ZIP_PAIRS(4));
  x[2] = (v_i32)__builtin_shufflevector(high_ab, high_cd, TO_ZIP_PAIRS(0));
  x[3] = (v_i32)__builtin_shufflevector(high_ab, high_cd, TO_ZIP_PAIRS(4));
}

#endif
