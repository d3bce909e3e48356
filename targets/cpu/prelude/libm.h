/* Functions that go lane by lane through the C library: those too rare to vectorise, and all of
 * f64. Their last bit is the C library's, so it may differ from one system to the next (remainders
 * and roundings are exact everywhere). Links with -lm. */
#ifndef TAPEOUT_LIBM_H
#define TAPEOUT_LIBM_H

#include <math.h>

#include "vec.h"

#define TO_LIBM(T, name, call)                 \
  TO_FN T s_##name##_##T(T x) { return call; } \
  TO_LIBM_VECTOR(T, name)
#define TO_LIBM_VECTOR(T, name)                                               \
  TO_BIG v_##T v_##name##_##T(v_##T a) {                                      \
    lanes_##T x = {a};                                                        \
    for (int i = 0; i < TO_LANES; i++) x.lane[i] = s_##name##_##T(x.lane[i]); \
    return x.v;                                                               \
  }
#define TO_LIBM2(T, name, body)                         \
  TO_FN T s_##name##_##T(T x, T y) { body }             \
  TO_BIG v_##T v_##name##_##T(v_##T a, v_##T b) {       \
    lanes_##T x = {a}, y = {b};                         \
    for (int i = 0; i < TO_LANES; i++)                  \
      x.lane[i] = s_##name##_##T(x.lane[i], y.lane[i]); \
    return x.v;                                         \
  }

TO_LIBM(f32, tan, tanf(x))
TO_LIBM(f32, asin, asinf(x))
TO_LIBM(f32, acos, acosf(x))
TO_LIBM(f32, atan, atanf(x))
TO_LIBM(f32, sinh, sinhf(x))
TO_LIBM(f32, cosh, coshf(x))
TO_LIBM(f32, asinh, asinhf(x))
TO_LIBM(f32, acosh, acoshf(x))
TO_LIBM(f32, atanh, atanhf(x))
TO_LIBM2(f32, atan2, return atan2f(x, y);)

TO_LIBM(f64, tan, tan(x))
TO_LIBM(f64, asin, asin(x))
TO_LIBM(f64, acos, acos(x))
TO_LIBM(f64, atan, atan(x))
TO_LIBM(f64, sinh, sinh(x))
TO_LIBM(f64, cosh, cosh(x))
TO_LIBM(f64, asinh, asinh(x))
TO_LIBM(f64, acosh, acosh(x))
TO_LIBM(f64, atanh, atanh(x))
TO_LIBM2(f64, atan2, return atan2(x, y);)
TO_LIBM(f64, exp, exp(x))
TO_LIBM(f64, exp2, exp2(x))
TO_LIBM(f64, expm1, expm1(x))
TO_LIBM(f64, log, log(x))
TO_LIBM(f64, log2, log2(x))
TO_LIBM(f64, log1p, log1p(x))
TO_LIBM(f64, tanh, tanh(x))
TO_LIBM(f64, erf, erf(x))
TO_LIBM(f64, sin, sin(x))
TO_LIBM(f64, cos, cos(x))
TO_LIBM(f64, round, nearbyint(x))
TO_LIBM(f64, floor, floor(x))
TO_LIBM(f64, ceil, ceil(x))
TO_LIBM(f64, trunc, trunc(x))
TO_LIBM(f64, sign, x > 0 ? 1 : x < 0 ? -1 : x)
TO_LIBM(f64, sigmoid, x > 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)))
TO_LIBM(f64, silu, x * s_sigmoid_f64(x))
TO_LIBM(f64, gelu, x * 0.5 * erfc(x * -0.70710678118654752440))
TO_LIBM(f64, gelu_tanh, x * s_sigmoid_f64(x * (1.5957691216057308 + 0.07135481627260025 * (x * x))))
TO_LIBM(f64, softplus, (x > 0 ? x : 0) + log1p(exp(-fabs(x))))
TO_LIBM(f64, mish, x * tanh(s_softplus_f64(x)))
TO_LIBM(f64, rsqrt, 1 / sqrt(x))
TO_FN f64 s_sqrt_f64(f64 x) { return __builtin_sqrt(x); }
TO_FN f64 s_abs_f64(f64 x) { return __builtin_fabs(x); }
TO_FN f64 s_fma_f64(f64 a, f64 b, f64 c) {
  return v_fma_f64(v_splat_f64(a), v_splat_f64(b), v_splat_f64(c))[0];
}
TO_LIBM2(f64, pow, return pow(x, y);)

/* Remainders: trunc_mod (fmod) has x's sign, floor_mod has y's, as in Python; y = 0 gives NaN.
 * Exact but for the one addition that moves floor_mod to y's side. */
TO_LIBM2(f32, trunc_mod, return fmodf(x, y);)
TO_LIBM2(f64, trunc_mod, return fmod(x, y);)
TO_LIBM2(f32, floor_mod, f32 r = fmodf(x, y); if (r == 0) return copysignf(0, y);
         return (r < 0) != (y < 0) ? r + y : r;)
TO_LIBM2(f64, floor_mod, f64 r = fmod(x, y); if (r == 0) return copysign(0, y);
         return (r < 0) != (y < 0) ? r + y : r;)

#endif
