/* Reductions over the lanes of one vector, in one fixed order: lane i meets lane i + TO_LANES/2,
 * then i + TO_LANES/4, ... down to lane 0 and lane 1. Included by vec.h. */
#ifndef TAPEOUT_REDUCE_H
#define TAPEOUT_REDUCE_H

/* to_fold_S_T: lane i gets lane i + S; what the upper lanes get is of no use. */
#define TO_LANE_UP(i, s) ((i) + (s)) % TO_LANES
#if TO_LANES == 16
#define TO_FOLD_BY(s)                                                                       \
  TO_LANE_UP(0, s), TO_LANE_UP(1, s), TO_LANE_UP(2, s), TO_LANE_UP(3, s), TO_LANE_UP(4, s), \
      TO_LANE_UP(5, s), TO_LANE_UP(6, s), TO_LANE_UP(7, s), TO_LANE_UP(8, s),               \
      TO_LANE_UP(9, s), TO_LANE_UP(10, s), TO_LANE_UP(11, s), TO_LANE_UP(12, s),            \
      TO_LANE_UP(13, s), TO_LANE_UP(14, s), TO_LANE_UP(15, s)
#define TO_TREE(x, op) \
  x = op(x, TO_UP(x, 8)), x = op(x, TO_UP(x, 4)), x = op(x, TO_UP(x, 2)), x = op(x, TO_UP(x, 1))
#elif TO_LANES == 8
#define TO_FOLD_BY(s)                                                                       \
  TO_LANE_UP(0, s), TO_LANE_UP(1, s), TO_LANE_UP(2, s), TO_LANE_UP(3, s), TO_LANE_UP(4, s), \
      TO_LANE_UP(5, s), TO_LANE_UP(6, s), TO_LANE_UP(7, s)
#define TO_TREE(x, op) x = op(x, TO_UP(x, 4)), x = op(x, TO_UP(x, 2)), x = op(x, TO_UP(x, 1))
#else
#define TO_FOLD_BY(s) TO_LANE_UP(0, s), TO_LANE_UP(1, s), TO_LANE_UP(2, s), TO_LANE_UP(3, s)
#define TO_TREE(x, op) x = op(x, TO_UP(x, 2)), x = op(x, TO_UP(x, 1))
#endif
#define TO_UP(x, s) __builtin_shufflevector(x, x, TO_FOLD_BY(s))

#define TO_REDUCE(T, name, op)       \
  TO_FN T v_h##name##_##T(v_##T x) { \
    TO_TREE(x, v_##op##_##T);        \
    return x[0];                     \
  }
/* 64-bit lanes: gcc spills a shuffle of two registers, so the tree is written in scalars. */
#define TO_REDUCE_SCALAR(T, name, op)                                                 \
  TO_FN T v_h##name##_##T(v_##T x) {                                                  \
    lanes_##T t = {x};                                                                \
    for (int s = TO_LANES / 2; s > 0; s /= 2)                                         \
      for (int i = 0; i < s; i++) t.lane[i] = s_##op##_##T(t.lane[i], t.lane[i + s]); \
    return t.lane[0];                                                                 \
  }
#define TO_FOUR(DEFINE, T) \
  DEFINE(T, sum, add) DEFINE(T, prod, mul) DEFINE(T, max, max) DEFINE(T, min, min)
#define TO_REDUCTIONS(T, M, U) TO_FOUR(TO_REDUCE, T)
#define TO_REDUCTIONS_SCALAR(T, M, U) TO_FOUR(TO_REDUCE_SCALAR, T)
TO_NARROW(TO_REDUCTIONS)
TO_WIDE(TO_REDUCTIONS_SCALAR)

/* Whether any lane of a 32-bit mask is set. */
TO_FN int v_any_f32(v_i32 mask) {
#if TO_AVX512
  return __builtin_ia32_ptestmd512(mask, mask, (u16)-1) != 0;
#elif TO_AVX2
  return __builtin_ia32_movmskps256((v_f32)mask) != 0;
#elif defined(__SSE__)
  return __builtin_ia32_movmskps((v_f32)mask) != 0;
#else
  return v_hmin_i32(mask) < 0;
#endif
}

/* Bools: 1 where every lane, any lane, is not zero. */
TO_FN u8 v_hany_u8(v_u8 x) { return v_hmax_u8(x) != 0; }
TO_FN u8 v_hall_u8(v_u8 x) { return v_hmin_u8(x) != 0; }

#endif
