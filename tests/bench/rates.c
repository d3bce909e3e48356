/* What one core computes in the register tile of a product, for the tables of CPU devices: 1e9
 * operations per second in f32, of bytes as kernels sum them (dot.h), and of 16-bit floats: pairs
 * that one instruction sums (dot2.h), or else panels that are widened in registers against rows that
 * were widened before; and of codes of one bit that are looked up, in groups of 32 (lookup.h).
 * Panels lie in the first-level cache. Compile with a device's flags and its tile:
 *
 *   gcc -O2 FLAGS -DROWS=tile_m -DCOLUMNS=tile_n -Wno-psabi -ffp-contract=off \
 *       -I targets/cpu/prelude tests/bench/rates.c -o rates && ./rates */
#include <stdio.h>
#include <time.h>

#include "half.h"

enum { VECTORS = COLUMNS / TO_LANES, STEPS = 128, CALLS = 2000, ROUNDS = 30 };
static f32 a[STEPS * ROWS], b[STEPS * COLUMNS], y[ROWS * COLUMNS];
static u8 codes[4 * STEPS * ROWS];
static i8 panel[4 * STEPS * COLUMNS];
static u8 tables[32 * STEPS], bits[STEPS / 2 * TO_LOOKUP_COLUMNS];
static i32 sums[ROWS * COLUMNS + TO_LOOKUP_COLUMNS];
static u16 halves[2 * STEPS * COLUMNS];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

#define TILE(name, vector, factor, SCALAR, LOAD, DOT, STORE)             \
  __attribute__((noinline)) static void name(void) {                     \
    vector total[ROWS][VECTORS];                                         \
    _Pragma("GCC unroll 16") for (int i = 0; i < ROWS; i++)              \
      _Pragma("GCC unroll 16") for (int j = 0; j < VECTORS; j++)         \
        total[i][j] = (vector){0};                                       \
    for (i64 k = 0; k < STEPS; k++) {                                    \
      factor right[VECTORS];                                             \
      _Pragma("GCC unroll 16") for (int j = 0; j < VECTORS; j++)         \
        right[j] = LOAD;                                                 \
      _Pragma("GCC unroll 16") for (int i = 0; i < ROWS; i++) {          \
        const factor left = SCALAR;                                      \
        _Pragma("GCC unroll 16") for (int j = 0; j < VECTORS; j++)       \
          total[i][j] = DOT(left, right[j], total[i][j]);                \
      }                                                                  \
    }                                                                    \
    _Pragma("GCC unroll 16") for (int i = 0; i < ROWS; i++)              \
      _Pragma("GCC unroll 16") for (int j = 0; j < VECTORS; j++)         \
        STORE(i * COLUMNS + j * TO_LANES, total[i][j]);                  \
  }

#define STORE_F32(at, x) v_store_f32(y + at, x)
#define STORE_I32(at, x) v_store_i32(sums + at, x)
TILE(floats, v_f32, v_f32, v_splat_f32(a[i * STEPS + k]),
     v_load_f32(b + (k * VECTORS + j) * TO_LANES), v_fma_f32, STORE_F32)
TILE(bytes, v_i32, v_i32, v_splat_i32(to_load_quad(codes + 4 * (i * STEPS + k))),
     v_load_quads(panel + 4 * (k * VECTORS + j) * TO_LANES), v_dot4_u8_i8, STORE_I32)

TILE(widened_f16, v_f32, v_f32, v_splat_f32(a[i * STEPS + k]),
     v_load_f16(halves + (k * VECTORS + j) * TO_LANES), v_fma_f32, STORE_F32)
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
TILE(pairs, v_f32, v_i32, v_splat_i32(to_load_quad(codes + 4 * (i * STEPS + k))),
     v_load_quads(halves + 2 * (k * VECTORS + j) * TO_LANES), v_dot2_bf16_bf16, STORE_F32)
#define BF16_TILE pairs
enum { BF16_DEPTH = 2 };
#else
TILE(widened_bf16, v_f32, v_f32, v_splat_f32(a[i * STEPS + k]),
     v_load_bf16(halves + (k * VECTORS + j) * TO_LANES), v_fma_f32, STORE_F32)
#define BF16_TILE widened_bf16
enum { BF16_DEPTH = 1 };
#endif

enum { LOOKED_UP_VECTORS = TO_LOOKUP_COLUMNS / TO_LANES };
__attribute__((noinline)) static void looked_up(void) {
  v_i32 total[LOOKED_UP_VECTORS] = {0};
  for (i64 k = 0; k < STEPS; k += 8)
    v_look_up(total, tables + 32 * k, bits + TO_LOOKUP_COLUMNS / 2 * k, 8, 1, 0, 0);
  _Pragma("GCC unroll 16") for (int j = 0; j < LOOKED_UP_VECTORS; j++)
    v_store_i32(sums + j * TO_LANES, total[j]);
}

static double rate(void (*tile)(void), double operations) {
  double best = 1e9;
  for (int round = 0; round < ROUNDS; round++) {
    double start = now();
    for (int call = 0; call < CALLS; call++) tile();
    double taken = now() - start;
    if (taken < best) best = taken;
  }
  return operations * CALLS / best / 1e9;
}

int main(void) {
  /* Else the compiler would know that all of it is zero. */
  __asm__ volatile("" : : "r"(a), "r"(b), "r"(codes), "r"(panel), "r"(halves) : "memory");
  __asm__ volatile("" : : "r"(tables), "r"(bits) : "memory");
  double products = 2.0 * ROWS * COLUMNS * STEPS;
  printf("f32 %.1f GFLOP/s, i8 %.1f GOP/s, ", rate(floats, products), rate(bytes, 4 * products));
  printf("bf16 %.1f GFLOP/s, f16 %.1f GFLOP/s, ", rate(BF16_TILE, BF16_DEPTH * products),
         rate(widened_f16, products));
  printf("look-ups %.1f GOP/s\n", rate(looked_up, 8.0 * TO_LOOKUP_COLUMNS * STEPS));
  return 0;
}
