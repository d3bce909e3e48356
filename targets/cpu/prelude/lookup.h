/* Sums of products with codes of few bits, looked up instead of multiplied. One bit of four
 * neighbouring codes is a number below 16; a table of 16 entries holds what the activations of the
 * bits that are set add up to. Entries have 10 bits, and lie as 16 bytes with the lower 5 and 16
 * with the upper 5: eight of either sum up in a byte. One shuffle of bytes is as many look-ups as a
 * register has bytes. Every sum is exact. Included by vec.h, behind zip.h.
 * Source: T-MAC, arXiv:2407.00088. */
#ifndef TAPEOUT_LOOKUP_H
#define TAPEOUT_LOOKUP_H

enum { TO_LOOKUP_COLUMNS = 64, TO_LOOKUP_LINES = TO_LOOKUP_COLUMNS / (4 * TO_LANES) };
typedef to_line to_line_at __attribute__((aligned(1), may_alias));

/* to_load_table: the 16 bytes at p, in each 16 bytes of a line.
 * to_pick: the bytes of a table that a line of numbers names.
 * to_join_low, to_join_high: lower + 32 * upper as 16 bits, of the bytes that to_zip_low zips, or
 *   to_zip_high.
 * to_widen: 16 bits as i32. gcc 12 takes the conversion of a whole vector by halves on AVX2. */
#if TO_AVX512 || TO_AVX2
typedef long long to_table __attribute__((vector_size(16)));
typedef to_table to_table_at __attribute__((aligned(1), may_alias));
#endif
#if TO_AVX512
typedef long long to_tables __attribute__((vector_size(64)));
TO_FN to_line to_load_table(const u8 *p) {
  const to_table table = *(const to_table_at *)p;
  return (to_line)__builtin_ia32_broadcasti64x2_512_mask(table, (to_tables){0}, 255);
}
TO_FN to_line to_pick(to_line table, to_line at) {
  return (to_line)__builtin_ia32_pshufb512_mask((to_chars)table, (to_chars)at, (to_chars){0}, ~0ull);
}
TO_FN to_line_pairs to_join(to_line_pairs x) {
  const to_chars factors = (to_chars)v_splat_i32(0x20012001);
  return (to_line_pairs)__builtin_ia32_pmaddubsw512_mask((to_chars)x, factors, (to_pairs){0}, ~0u);
}
#elif TO_AVX2
TO_FN to_line to_load_table(const u8 *p) {
  return (to_line)__builtin_ia32_vbroadcastsi256(*(const to_table_at *)p);
}
TO_FN to_line to_pick(to_line table, to_line at) {
  return (to_line)__builtin_ia32_pshufb256((to_chars)table, (to_chars)at);
}
TO_FN to_line_pairs to_join(to_line_pairs x) {
  const to_chars factors = (to_chars)v_splat_i32(0x20012001);
  return (to_line_pairs)__builtin_ia32_pmaddubsw256((to_chars)x, factors);
}
#else
TO_FN to_line to_load_table(const u8 *p) { return *(const to_line_at *)p; }
#if TO_NEON
TO_FN to_line to_pick(to_line table, to_line at) {
  return (to_line)vqtbl1q_u8((uint8x16_t)table, (uint8x16_t)at);
}
TO_FN to_line_pairs to_join_low(to_line lower, to_line upper) {
  const uint16x8_t high = vshll_n_u8(vget_low_u8((uint8x16_t)upper), 5);
  return (to_line_pairs)vaddw_u8(high, vget_low_u8((uint8x16_t)lower));
}
TO_FN to_line_pairs to_join_high(to_line lower, to_line upper) {
  return (to_line_pairs)vaddw_high_u8(vshll_high_n_u8((uint8x16_t)upper, 5), (uint8x16_t)lower);
}
#else
TO_FN to_line to_pick(to_line table, to_line at) {
  for (int i = 0; i < 16; i++) at[i] = table[at[i]];
  return at;
}
TO_FN to_line_pairs to_join(to_line_pairs x) { return (x & 255) + (x >> 3 & 0x1FE0); }
#endif
#endif
#if !TO_NEON
TO_FN to_line_pairs to_join_low(to_line lower, to_line upper) {
  return to_join((to_line_pairs)to_zip_low(lower, upper));
}
TO_FN to_line_pairs to_join_high(to_line lower, to_line upper) {
  return to_join((to_line_pairs)to_zip_high(lower, upper));
}
#endif
#if TO_AVX2
TO_FN v_i32 to_widen(v_u16 x) { return __builtin_ia32_pmovzxwd256((v_i16)x); }
#else
TO_FN v_i32 to_widen(v_u16 x) { return TO_TO(x, v_i32); }
#endif

/* Keeps gcc from adding later what is picked now: for that it would run out of registers. */
#if TO_AVX512
#define TO_ADD_NOW(x) __asm__("" : "+v"(x))
#elif TO_AVX2
#define TO_ADD_NOW(x) __asm__("" : "+x"(x))
#elif TO_NEON
#define TO_ADD_NOW(x) __asm__("" : "+w"(x))
#else
#define TO_ADD_NOW(x) (void)0
#endif

/* Adds the 16 bits of a line, as zipping left them, to its four vectors of columns. */
#if TO_NEON
TO_FN void to_add_wide(v_i32 *sums, to_line_pairs low, to_line_pairs high, int up) {
  const uint16x8_t x = (uint16x8_t)low, y = (uint16x8_t)high;
  sums[0] = v_add_i32(sums[0], (v_i32)(vmovl_u16(vget_low_u16(x)) << up));
  sums[1] = v_add_i32(sums[1], (v_i32)(vmovl_high_u16(x) << up));
  sums[2] = v_add_i32(sums[2], (v_i32)(vmovl_u16(vget_low_u16(y)) << up));
  sums[3] = v_add_i32(sums[3], (v_i32)(vmovl_high_u16(y) << up));
}
#else
#define TO_8(at) (at), (at) + 1, (at) + 2, (at) + 3, (at) + 4, (at) + 5, (at) + 6, (at) + 7
#if TO_LANES == 16
#define TO_COLUMNS(q) TO_8(8 * (q)), TO_8(32 + 8 * (q))
#elif TO_LANES == 8
#define TO_COLUMNS(q) TO_8(16 * ((q) % 2) + 8 * ((q) / 2))
#else
#define TO_COLUMNS(q) 4 * (q), 4 * (q) + 1, 4 * (q) + 2, 4 * (q) + 3
#endif
TO_FN void to_add_vector(v_i32 *sum, v_u16 x, int up) {
  *sum = v_add_i32(*sum, (v_i32)((v_u32)to_widen(x) << up));
}
#define TO_ADD_WIDE(q) \
  to_add_vector(sums + (q), (v_u16)__builtin_shufflevector(low, high, TO_COLUMNS(q)), up)
TO_FN void to_add_wide(v_i32 *sums, to_line_pairs low, to_line_pairs high, int up) {
  TO_ADD_WIDE(0), TO_ADD_WIDE(1), TO_ADD_WIDE(2), TO_ADD_WIDE(3);
}
#endif

/* Adds to low and high, for one bit of 64 columns, the entries of up to eight steps. */
TO_FN void to_pick_steps(to_line_pairs *low, to_line_pairs *high, const u8 *tables, const u8 *codes,
                         int steps, int ahead) {
  to_line lower[TO_LOOKUP_LINES] = {0}, upper[TO_LOOKUP_LINES] = {0};
#pragma GCC unroll 4
  for (int pair = 0; pair < steps / 2; pair++, tables += 64, codes += TO_LOOKUP_COLUMNS) {
    const to_line even_lower = to_load_table(tables), even_upper = to_load_table(tables + 16);
    const to_line odd_lower = to_load_table(tables + 32), odd_upper = to_load_table(tables + 48);
    __builtin_prefetch(codes + ahead);
#pragma GCC unroll 4
    for (int n = 0; n < TO_LOOKUP_LINES; n++) {
      const to_line both = *(const to_line_at *)(codes + 4 * TO_LANES * n);
      const to_line even = both & 15, odd = (to_line)((to_line_pairs)both >> 4) & 15;
      lower[n] += to_pick(even_lower, even) + to_pick(odd_lower, odd);
      upper[n] += to_pick(even_upper, even) + to_pick(odd_upper, odd);
      TO_ADD_NOW(lower[n]);
      TO_ADD_NOW(upper[n]);
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < TO_LOOKUP_LINES; n++) {
    low[n] += to_join_low(lower[n], upper[n]);
    high[n] += to_join_high(lower[n], upper[n]);
  }
}

/* tile.look_up for one row: sums[64 columns] += entry << (bit + up), over all steps and bits.
 * tables[steps][2 halves][16]; codes[bits][steps / 2][64]. Three bits are summed in 16. */
TO_FN void v_look_up(v_i32 *sums, const u8 *tables, const u8 *codes, int steps, int bits, int up,
                     int ahead) {
#pragma GCC unroll 3
  for (int first = 0; first < bits; first += 3) {
    to_line_pairs low[TO_LOOKUP_LINES] = {0}, high[TO_LOOKUP_LINES] = {0};
#pragma GCC unroll 3
    for (int bit = bits < first + 3 ? bits - 1 : first + 2; bit >= first; bit--) {
      const u8 *plane = codes + bit * steps / 2 * TO_LOOKUP_COLUMNS;
#pragma GCC unroll 4
      for (int n = 0; n < TO_LOOKUP_LINES; n++) low[n] += low[n], high[n] += high[n];
#pragma GCC unroll 8
      for (int at = 0; at < steps; at += 8)
        to_pick_steps(low, high, tables + 32 * at, plane + at / 2 * TO_LOOKUP_COLUMNS,
                      steps < at + 8 ? steps - at : 8, ahead);
    }
#pragma GCC unroll 4
    for (int n = 0; n < TO_LOOKUP_LINES; n++) to_add_wide(sums + 4 * n, low[n], high[n], first + up);
  }
}

#endif
