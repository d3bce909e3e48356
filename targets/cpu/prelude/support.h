/* Small integer helpers of generated index arithmetic, and loads with a fill value. */
#ifndef TAPEOUT_SUPPORT_H
#define TAPEOUT_SUPPORT_H

#include "vec.h"

TO_FN i64 to_min(i64 a, i64 b) { return a < b ? a : b; }
TO_FN i64 to_max(i64 a, i64 b) { return a > b ? a : b; }
/* Rounded toward minus infinity, as in Python; b is not 0. */
TO_FN i64 to_floordiv(i64 a, i64 b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }
TO_FN i64 to_mod(i64 a, i64 b) { return a - to_floordiv(a, b) * b; }

/* The first n lanes from memory, fill in the others. */
TO_FN v_f32 to_load_fill_f32(const f32 *p, i64 n, f32 fill) {
  v_i32 inside = v_iota_i32(0) < v_splat_i32((i32)to_min(to_max(n, 0), TO_LANES));
  return v_blend_f32(inside, v_load_n_f32(p, n), v_splat_f32(fill));
}

#endif
