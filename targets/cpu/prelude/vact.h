/* Activations made of exp and log1p. Each is the formula in its comment, also at infinity: silu and
 * mish give NaN at -inf, as the formula does. */
#ifndef TAPEOUT_VACT_H
#define TAPEOUT_VACT_H

#include "vexp.h"
#include "vlog.h"

/* exp(-|x|) */
TO_FN v_f32 to_exp_down(v_f32 x) {
  v_f32 r, n = to_split_ln2(v_fastmax_f32(TO_C(-104), -v_abs_f32(x)), &r);
  return to_scale(to_exp_poly(r), n);
}

/* 1 / (1 + exp(-x)), 2.5 ulp, to the last subnormal for negative x. */
TO_FN v_f32 v_sigmoid_f32(v_f32 x) {
  v_f32 e = to_exp_down(x);
  return v_blend_f32(x > 0, TO_C(1), e) / (1 + e);
}

/* x sigmoid(x), 3.3 ulp for x > -87 (below, sigmoid is subnormal). */
TO_FN v_f32 v_silu_f32(v_f32 x) { return x * v_sigmoid_f32(x); }

/* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) = x sigmoid(2 sqrt(2 / pi) (...)):
 * relative error 4e-6 for x > -5 and growing to the left, where exp magnifies its argument's. */
TO_FN v_f32 v_gelu_tanh_f32(v_f32 x) {
  v_f32 u = v_fma_f32(x * x, TO_C(0.07135481627f), TO_C(1.595769122f));
  return x * v_sigmoid_f32(x * u);
}

/* 2.5 ulp. tanh(x) = -m / (m + 2) with m = exp(-2|x|) - 1; the sign of zero stays. */
TO_FN v_f32 v_tanh_f32(v_f32 x) {
  v_f32 r, n, s, m;
  /* from 9.02 on the result rounds to 1 */
  n = to_split_ln2(v_fastmax_f32(TO_C(-18.1f), v_abs_f32(x) * -2), &r);
  s = to_pow2(n);
  m = v_fma_f32(s, to_expm1_poly(r), s - 1);
  return v_copysign_f32(m / (m + 2), x);
}

/* 2 ulp. log(1 + exp(x)) = max(x, 0) + log(1 + e), e = exp(-|x|); from 4/3 on, 1 + e is
 * 2 (1 + (e - 1) / 2). */
TO_FN v_f32 v_softplus_f32(v_f32 x) {
  v_f32 e = to_exp_down(x);
  v_i32 upper = e > 0x1.555556p-2f;
  v_f32 f = v_blend_f32(upper, v_fma_f32(e, TO_C(0.5f), TO_C(-0.5f)), e);
  v_f32 k = (v_f32)(upper & (v_i32)TO_C(1));
  return v_fastmax_f32(TO_C(0), x) + to_log_of(k, f);
}

/* 4 ulp for x > -87. x tanh(softplus(x)) = x m / (m + 2) with m = e (e + 2), e = exp(x); from 20
 * on it is x. */
TO_FN v_f32 v_mish_f32(v_f32 x) {
  v_f32 e = v_exp_f32(v_fastmin_f32(TO_C(20), x));
  v_f32 m = v_fma_f32(e, e, e + e);
  return x * (m / (m + 2));
}

#endif
