/* All float maths that needs no libm. A kernel may include this, or only the part that it uses. */
#ifndef TAPEOUT_VMATH_H
#define TAPEOUT_VMATH_H

#include "vact.h"
#include "verf.h"
#include "vexp.h"
#include "vlog.h"
#include "vpow.h"
#include "vtrig.h"

/* 1 / sqrt(x), 1.5 ulp: two correctly rounded steps; 0 gives inf, -0 -inf, below 0 NaN. */
TO_FN v_f32 v_rsqrt_f32(v_f32 x) { return 1 / v_sqrt_f32(x); }

/* One lane through the vector: the same bits as in a loop over vectors. */
#define TO_SCALAR(name) \
  TO_FN f32 s_##name##_f32(f32 x) { return v_##name##_f32(v_splat_f32(x))[0]; }
TO_SCALAR(exp) TO_SCALAR(exp2) TO_SCALAR(expm1) TO_SCALAR(log) TO_SCALAR(log2) TO_SCALAR(log1p)
TO_SCALAR(sigmoid) TO_SCALAR(silu) TO_SCALAR(tanh) TO_SCALAR(softplus) TO_SCALAR(mish)
TO_SCALAR(gelu) TO_SCALAR(gelu_tanh) TO_SCALAR(erf) TO_SCALAR(sin) TO_SCALAR(cos)
TO_SCALAR(sqrt) TO_SCALAR(rsqrt) TO_SCALAR(abs) TO_SCALAR(sign)
TO_SCALAR(round) TO_SCALAR(floor) TO_SCALAR(ceil) TO_SCALAR(trunc)
TO_FN f32 s_pow_f32(f32 x, f32 y) { return v_pow_f32(v_splat_f32(x), v_splat_f32(y))[0]; }
TO_FN f32 s_fma_f32(f32 a, f32 b, f32 c) {
  return v_fma_f32(v_splat_f32(a), v_splat_f32(b), v_splat_f32(c))[0];
}

#endif
