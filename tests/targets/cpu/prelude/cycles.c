/* Cycles per element of the prelude's maths, for the table in its README; nothing is asserted.
 *
 *   gcc -O2 -march=native -Wno-psabi -ffp-contract=off -fno-math-errno -fno-trapping-math \
 *       -I targets/cpu/prelude tests/targets/cpu/prelude/cycles.c -o cycles && ./cycles
 *
 * 4096 elements (in the first-level cache), best of 200 runs; the clock is found from a chain of
 * dependent additions, each three cycles on the machines measured so far (ADD_CYCLES). */
#include <stdio.h>
#include <time.h>

#include "half.h"
#include "vmath.h"

#ifndef ADD_CYCLES
#define ADD_CYCLES 3
#endif
enum { N = 4096, RUNS = 200, CHAIN = 100000 };
static f32 in[N], out[N];

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static double ns_per_cycle(void) {
  double best = 1e18;
  for (int run = 0; run < 50; run++) {
    double start = now_ns();
    f32 x = in[0];
    for (int i = 0; i < CHAIN; i++) {
      x += 1;
      __asm__ volatile("" : "+x"(x));
    }
    out[0] = x;
    if (now_ns() - start < best) best = now_ns() - start;
  }
  return best / CHAIN / ADD_CYCLES;
}

static void fill(double low, double high) {
  for (int i = 0; i < N; i++) in[i] = (f32)(low + (high - low) * i / N);
}

#define MEASURE(name, low, high, expression)                                \
  {                                                                         \
    double best = 1e18;                                                     \
    fill(low, high);                                                        \
    for (int run = 0; run < RUNS; run++) {                                  \
      double start = now_ns();                                              \
      for (int i = 0; i < N; i += TO_LANES) {                               \
        v_f32 x = v_load_f32(in + i);                                       \
        v_store_f32(out + i, expression);                                   \
      }                                                                     \
      __asm__ volatile("" : : "r"(out) : "memory");                         \
      if (now_ns() - start < best) best = now_ns() - start;                 \
    }                                                                       \
    printf("%-10s %6.2f cycles per element\n", name, best / N / cycle);     \
  }
#define UNARY(name, low, high) MEASURE(#name, low, high, v_##name##_f32(x))

int main(void) {
  double cycle = ns_per_cycle();
  printf("%d lanes, %.2f GHz\n", TO_LANES, 1 / cycle);
  UNARY(exp, -5, 5)
  UNARY(exp2, -5, 5)
  UNARY(expm1, -5, 5)
  UNARY(log, 0.01, 9)
  UNARY(log2, 0.01, 9)
  UNARY(log1p, -0.9, 9)
  UNARY(tanh, -5, 5)
  UNARY(sigmoid, -5, 5)
  UNARY(silu, -5, 5)
  UNARY(softplus, -5, 5)
  UNARY(mish, -5, 5)
  UNARY(erf, -4, 4)
  UNARY(gelu, -5, 5)
  UNARY(gelu_tanh, -5, 5)
  UNARY(sin, -9, 9)
  UNARY(cos, -9, 9)
  UNARY(sqrt, 0, 9)
  UNARY(rsqrt, 0.1, 9)
  UNARY(floor, -9, 9)
  MEASURE("pow", 0.1, 5, v_pow_f32(x, x))
  MEASURE("max", -9, 9, v_max_f32(x, v_splat_f32(0)))
  MEASURE("bf16", -9, 9, to_f32_bf16(to_bf16_f32(x)))
  MEASURE("f16", -9, 9, to_f32_f16(to_f16_f32(x)))
  MEASURE("f8e4m3fn", -9, 9, to_f32_f8e4m3fn(to_f8e4m3fn_f32(x)))
  return 0;
}
