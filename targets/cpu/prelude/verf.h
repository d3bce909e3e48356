/* erf, and GELU in its erf form. */
#ifndef TAPEOUT_VERF_H
#define TAPEOUT_VERF_H

#include "vexp.h"

/* erf(x), 1.3 ulp. Below 0.84 an odd polynomial; above it 1 - 2^L(|x|) with L a polynomial for
 * log2(erfc), which rounds to 1 from 3.92 on. The sign of zero stays. */
TO_FN v_f32 v_erf_f32(v_f32 x) {
  v_f32 s = x * x, t = v_fastmin_f32(TO_C(3.95f), v_abs_f32(x)), p, z, n;
  p = v_fma_f32(TO_C(-0x1.4d8940p-11f), s, TO_C(0x1.4b9558p-8f));
  p = v_fma_f32(p, s, TO_C(-0x1.b7395cp-6f));
  p = v_fma_f32(p, s, TO_C(0x1.ce2588p-4f));
  p = v_fma_f32(p, s, TO_C(-0x1.812726p-2f));
  p = v_fma_f32(p, s, TO_C(0x1.06eba8p-3f));
  p = v_fma_f32(p, x, x);
  z = v_fma_f32(TO_C(0x1.33f1ccp-12f), t, TO_C(-0x1.26b54cp-8f));
  z = v_fma_f32(z, t, TO_C(0x1.0a1d94p-5f));
  z = v_fma_f32(z, t, TO_C(-0x1.34d42cp-3f));
  z = v_fma_f32(z, t, TO_C(-0x1.d62be0p-1f));
  z = v_fma_f32(z, t, TO_C(-0x1.a0a088p+0f));
  z = v_fma_f32(z, t, TO_C(-0x1.3a8ff4p-13f));
  n = (z + TO_SHIFTER) - TO_SHIFTER;
  z = v_fma_f32(to_exp2_poly(z - n), -to_pow2(n), TO_C(1));
  return v_blend_f32(t > 0.84f, v_copysign_f32(z, x), p);
}

/* x Phi(x), 3 ulp for x > -1, within 4e-8 |x| everywhere.
 *
 * x Phi(x) = max(x, 0) - |x| Phi(-|x|), where Phi is the normal distribution. Phi(-t) = 2^L(t): no
 * 1 + erf that cancels, so the left tail keeps its relative accuracy (to 2^-12 for t < 5.5; beyond,
 * where |x| Phi < 1.1e-7, L goes on as a parabola and the result is within 1e-9 |x|).
 * inf gives inf, -inf gives NaN, as x * Phi(x) does. */
TO_FN v_f32 v_gelu_f32(v_f32 x) {
  v_f32 a = v_abs_f32(v_fastmin_f32(TO_C(0x1.fffffep127f), x)); /* inf - inf * 0 would be NaN */
  v_f32 t = v_fastmin_f32(TO_C(5.5f), a), d = a - t, z, n;
  z = v_fma_f32(TO_C(0x1.0b3068p-22f), t, TO_C(-0x1.7d06aep-18f));
  z = v_fma_f32(z, t, TO_C(0x1.b48de2p-15f));
  z = v_fma_f32(z, t, TO_C(-0x1.c14ca2p-13f));
  z = v_fma_f32(z, t, TO_C(-0x1.b5e6ecp-14f));
  z = v_fma_f32(z, t, TO_C(0x1.cdaeecp-8f));
  z = v_fma_f32(z, t, TO_C(-0x1.ae03c2p-5f));
  z = v_fma_f32(z, t, TO_C(-0x1.d63aa6p-2f));
  z = v_fma_f32(z, t, TO_C(-0x1.26aed6p+0f));
  z = v_fma_f32(z, t, TO_C(-1));
  z = v_fma_f32(v_fma_f32(d, TO_C(-0.7075f), TO_C(-0x1.05d3e4p+3f)), d, z);
  z = v_fastmax_f32(TO_C(-160), z);
  n = (z + TO_SHIFTER) - TO_SHIFTER;
  return v_fma_f32(-a, to_scale(to_exp2_poly(z - n), n), v_fastmax_f32(TO_C(0), x));
}

#endif
