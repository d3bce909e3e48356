/* erf and the erf form of GELU. */
#ifndef TAPEOUT_VERF_H
#define TAPEOUT_VERF_H

#include "vec.h"

/* erf(x), an odd rational function of degree 11 over 10 for |x| < 3.925, then +-1. */
TO_FN v_f32 v_erf_f32(v_f32 x) {
  v_f32 y = v_fastmax_f32(v_splat_f32(-3.925f), v_fastmin_f32(v_splat_f32(3.925f), x));
  v_f32 s = y * y, p, q;
  p = v_fma_f32(v_splat_f32(2.0460301e-06f), s, v_splat_f32(0.00028484571f));
  q = v_fma_f32(v_splat_f32(3.8047925e-05f), s, v_splat_f32(0.0011638723f));
  p = v_fma_f32(p, s, v_splat_f32(0.0037726f));
  q = v_fma_f32(q, s, v_splat_f32(0.01498329f));
  p = v_fma_f32(p, s, v_splat_f32(0.052769438f));
  q = v_fma_f32(q, s, v_splat_f32(0.11418315f));
  p = v_fma_f32(p, s, v_splat_f32(0.19059478f));
  q = v_fma_f32(q, s, v_splat_f32(0.50224295f));
  p = v_fma_f32(p, s, v_splat_f32(1.1283791f));
  q = v_fma_f32(q, s, v_splat_f32(1));
  return y * p / q;
}

#endif
