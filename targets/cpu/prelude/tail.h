/* Loads and stores of the first n lanes; n <= 0 means none, n >= TO_LANES all. No byte past lane
 * n - 1 is read or written; a load sets the other lanes to 0. Included by vec.h. */
#ifndef TAPEOUT_TAIL_H
#define TAPEOUT_TAIL_H

TO_FN int to_clamp_lanes(i64 n) { return n < 0 ? 0 : n > TO_LANES ? TO_LANES : (int)n; }

/* Lane by lane, for the widths that an instruction set cannot mask. */
#define TO_TAIL_LOOP(M)                                                      \
  typedef M to_##M##_at __attribute__((may_alias));                          \
  TO_FN v_##M to_load_n_##M(const void *p, i64 n) {                          \
    lanes_##M r = {{0}};                                                     \
    int lanes = to_clamp_lanes(n);                                           \
    for (int i = 0; i < lanes; i++) r.lane[i] = ((const to_##M##_at *)p)[i]; \
    return r.v;                                                              \
  }                                                                          \
  TO_FN void to_store_n_##M(void *p, v_##M x, i64 n) {                       \
    lanes_##M r = {x};                                                       \
    int lanes = to_clamp_lanes(n);                                           \
    for (int i = 0; i < lanes; i++) ((to_##M##_at *)p)[i] = r.lane[i];       \
  }

#if TO_AVX512
typedef char to_v16qi __attribute__((vector_size(16)));
typedef long long to_v8di __attribute__((vector_size(64)));
TO_FN u16 to_tail_mask(i64 n) { return (u16)((1u << to_clamp_lanes(n)) - 1); }

TO_FN v_i8 to_load_n_i8(const void *p, i64 n) {
  return (v_i8)__builtin_ia32_loaddquqi128_mask(p, (to_v16qi){0}, to_tail_mask(n));
}
TO_FN void to_store_n_i8(void *p, v_i8 x, i64 n) {
  __builtin_ia32_storedquqi128_mask(p, (to_v16qi)x, to_tail_mask(n));
}
TO_FN v_i16 to_load_n_i16(const void *p, i64 n) {
  return __builtin_ia32_loaddquhi256_mask(p, v_zero_i16(), to_tail_mask(n));
}
TO_FN void to_store_n_i16(void *p, v_i16 x, i64 n) {
  __builtin_ia32_storedquhi256_mask(p, x, to_tail_mask(n));
}
TO_FN v_i32 to_load_n_i32(const void *p, i64 n) {
  return __builtin_ia32_loaddqusi512_mask(p, v_zero_i32(), to_tail_mask(n));
}
TO_FN void to_store_n_i32(void *p, v_i32 x, i64 n) {
  __builtin_ia32_storedqusi512_mask(p, x, to_tail_mask(n));
}
TO_FN v_i64 to_load_n_i64(const void *p, i64 n) {
  u16 mask = to_tail_mask(n);
  lanes_i64 r;
  r.h[0] = (h_i64)__builtin_ia32_loaddqudi512_mask(p, (to_v8di){0}, (u8)mask);
  p = (const char *)p + sizeof(to_v8di);
  r.h[1] = (h_i64)__builtin_ia32_loaddqudi512_mask(p, (to_v8di){0}, (u8)(mask >> 8));
  return r.v;
}
TO_FN void to_store_n_i64(void *p, v_i64 x, i64 n) {
  u16 mask = to_tail_mask(n);
  lanes_i64 r = {x};
  __builtin_ia32_storedqudi512_mask(p, (to_v8di)r.h[0], (u8)mask);
  p = (char *)p + sizeof(to_v8di);
  __builtin_ia32_storedqudi512_mask(p, (to_v8di)r.h[1], (u8)(mask >> 8));
}
#elif TO_AVX2
typedef long long to_v4di __attribute__((vector_size(32)));
TO_TAIL_LOOP(i8)
TO_TAIL_LOOP(i16)
TO_FN v_i32 to_tail_mask(i64 n) { return v_iota_i32(0) < v_splat_i32(to_clamp_lanes(n)); }
TO_FN v_i32 to_load_n_i32(const void *p, i64 n) {
  return __builtin_ia32_maskloadd256(p, to_tail_mask(n));
}
TO_FN void to_store_n_i32(void *p, v_i32 x, i64 n) {
  __builtin_ia32_maskstored256(p, to_tail_mask(n), x);
}
TO_FN v_i64 to_load_n_i64(const void *p, i64 n) {
  lanes_i64 mask = {TO_TO(to_tail_mask(n), v_i64)}, r;
  r.h[0] = (h_i64)__builtin_ia32_maskloadq256(p, (to_v4di)mask.h[0]);
  p = (const char *)p + sizeof(to_v4di);
  r.h[1] = (h_i64)__builtin_ia32_maskloadq256(p, (to_v4di)mask.h[1]);
  return r.v;
}
TO_FN void to_store_n_i64(void *p, v_i64 x, i64 n) {
  lanes_i64 mask = {TO_TO(to_tail_mask(n), v_i64)}, r = {x};
  __builtin_ia32_maskstoreq256(p, (to_v4di)mask.h[0], (to_v4di)r.h[0]);
  p = (char *)p + sizeof(to_v4di);
  __builtin_ia32_maskstoreq256(p, (to_v4di)mask.h[1], (to_v4di)r.h[1]);
}
#else
TO_TAIL_LOOP(i8)
TO_TAIL_LOOP(i16)
TO_TAIL_LOOP(i32)
TO_TAIL_LOOP(i64)
#endif

#define TO_TAIL(T, M, U)                                                             \
  TO_FN v_##T v_load_n_##T(const T *p, i64 n) { return (v_##T)to_load_n_##M(p, n); } \
  TO_FN void v_store_n_##T(T *p, v_##T x, i64 n) { to_store_n_##M(p, (v_##M)x, n); }
TO_ALL(TO_TAIL)

#endif
