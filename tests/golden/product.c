/* product [S, 6] x [6, 10]
 *
 * x0: f32 [S, 6], read
 * x1: f32 [2, 6, 8], read
 * y0: f32 [S, 10], written
 */
#include "kernel.h"

static void k0_matmul_gelu_part0(void *p, i64 begin, i64 end, int thread)
{
  rt_session *const s = ((to_call *)p)->session;
  void *const *const b = ((to_call *)p)->buffers;
  (void)s, (void)thread;
  const i64 dim_S = s->dims[0];
  (void)dim_S;
  const f32 *restrict x0 = b[0];
  const f32 *restrict x1 = b[1];
  f32 *restrict y0 = b[2];
  for (i64 task = begin; task < end; task++) {
    const i64 c = (task / 2) * 64;
    const i64 j = (task % 2) * 8;
    for (i64 i = 0; i < 4 * to_floordiv((-c + to_min(dim_S, (c + 64))), 4); i += 4) {
      const v_f32 zero_1 = v_splat_f32(0.0f);
      v_f32 carried_2_0_0 = zero_1;
      v_f32 carried_2_0_1 = zero_1;
      v_f32 carried_2_1_0 = zero_1;
      v_f32 carried_2_1_1 = zero_1;
      v_f32 carried_2_2_0 = zero_1;
      v_f32 carried_2_2_1 = zero_1;
      v_f32 carried_2_3_0 = zero_1;
      v_f32 carried_2_3_1 = zero_1;
      for (i64 k = 0; k < 6; k += 1) {
        const v_f32 x1_3_0_0 = v_load_f32(x1 + 48 * (j / 8) + 8 * k);
        const v_f32 x1_3_0_1 = v_load_f32(x1 + 48 * (j / 8) + 8 * k + 4);
        const v_f32 dot_4_a0 = v_splat_f32(x0[6 * c + 6 * i + k]);
        const v_f32 dot_4_0_0 = v_fma_f32(dot_4_a0, x1_3_0_0, carried_2_0_0);
        const v_f32 dot_4_0_1 = v_fma_f32(dot_4_a0, x1_3_0_1, carried_2_0_1);
        const v_f32 dot_4_a1 = v_splat_f32(x0[6 * c + 6 * i + k + 6]);
        const v_f32 dot_4_1_0 = v_fma_f32(dot_4_a1, x1_3_0_0, carried_2_1_0);
        const v_f32 dot_4_1_1 = v_fma_f32(dot_4_a1, x1_3_0_1, carried_2_1_1);
        const v_f32 dot_4_a2 = v_splat_f32(x0[6 * c + 6 * i + k + 12]);
        const v_f32 dot_4_2_0 = v_fma_f32(dot_4_a2, x1_3_0_0, carried_2_2_0);
        const v_f32 dot_4_2_1 = v_fma_f32(dot_4_a2, x1_3_0_1, carried_2_2_1);
        const v_f32 dot_4_a3 = v_splat_f32(x0[6 * c + 6 * i + k + 18]);
        const v_f32 dot_4_3_0 = v_fma_f32(dot_4_a3, x1_3_0_0, carried_2_3_0);
        const v_f32 dot_4_3_1 = v_fma_f32(dot_4_a3, x1_3_0_1, carried_2_3_1);
        carried_2_0_0 = dot_4_0_0;
        carried_2_0_1 = dot_4_0_1;
        carried_2_1_0 = dot_4_1_0;
        carried_2_1_1 = dot_4_1_1;
        carried_2_2_0 = dot_4_2_0;
        carried_2_2_1 = dot_4_2_1;
        carried_2_3_0 = dot_4_3_0;
        carried_2_3_1 = dot_4_3_1;
      }
      const v_f32 gelu_5_0_0 = v_gelu_f32(carried_2_0_0);
      const v_f32 gelu_5_0_1 = v_gelu_f32(carried_2_0_1);
      const v_f32 gelu_5_1_0 = v_gelu_f32(carried_2_1_0);
      const v_f32 gelu_5_1_1 = v_gelu_f32(carried_2_1_1);
      const v_f32 gelu_5_2_0 = v_gelu_f32(carried_2_2_0);
      const v_f32 gelu_5_2_1 = v_gelu_f32(carried_2_2_1);
      const v_f32 gelu_5_3_0 = v_gelu_f32(carried_2_3_0);
      const v_f32 gelu_5_3_1 = v_gelu_f32(carried_2_3_1);
      v_store_n_f32(y0 + 10 * c + 10 * i + j, gelu_5_0_0, -j + 10);
      v_store_n_f32(y0 + 10 * c + 10 * i + j + 4, gelu_5_0_1, -j + 6);
      v_store_n_f32(y0 + 10 * c + 10 * i + j + 10, gelu_5_1_0, -j + 10);
      v_store_n_f32(y0 + 10 * c + 10 * i + j + 14, gelu_5_1_1, -j + 6);
      v_store_n_f32(y0 + 10 * c + 10 * i + j + 20, gelu_5_2_0, -j + 10);
      v_store_n_f32(y0 + 10 * c + 10 * i + j + 24, gelu_5_2_1, -j + 6);
      v_store_n_f32(y0 + 10 * c + 10 * i + j + 30, gelu_5_3_0, -j + 10);
      v_store_n_f32(y0 + 10 * c + 10 * i + j + 34, gelu_5_3_1, -j + 6);
    }
    for (i64 i1 = 4 * to_floordiv((-c + to_min(dim_S, (c + 64))), 4); i1 < 2 * to_floordiv((-c + to_min(dim_S, (c + 64))), 2); i1 += 2) {
      const v_f32 zero_6 = v_splat_f32(0.0f);
      v_f32 carried_7_0_0 = zero_6;
      v_f32 carried_7_0_1 = zero_6;
      v_f32 carried_7_1_0 = zero_6;
      v_f32 carried_7_1_1 = zero_6;
      for (i64 k1 = 0; k1 < 6; k1 += 1) {
        const v_f32 x1_8_0_0 = v_load_f32(x1 + 48 * (j / 8) + 8 * k1);
        const v_f32 x1_8_0_1 = v_load_f32(x1 + 48 * (j / 8) + 8 * k1 + 4);
        const v_f32 dot_9_a0 = v_splat_f32(x0[6 * c + 6 * i1 + k1]);
        const v_f32 dot_9_0_0 = v_fma_f32(dot_9_a0, x1_8_0_0, carried_7_0_0);
        const v_f32 dot_9_0_1 = v_fma_f32(dot_9_a0, x1_8_0_1, carried_7_0_1);
        const v_f32 dot_9_a1 = v_splat_f32(x0[6 * c + 6 * i1 + k1 + 6]);
        const v_f32 dot_9_1_0 = v_fma_f32(dot_9_a1, x1_8_0_0, carried_7_1_0);
        const v_f32 dot_9_1_1 = v_fma_f32(dot_9_a1, x1_8_0_1, carried_7_1_1);
        carried_7_0_0 = dot_9_0_0;
        carried_7_0_1 = dot_9_0_1;
        carried_7_1_0 = dot_9_1_0;
        carried_7_1_1 = dot_9_1_1;
      }
      const v_f32 gelu_10_0_0 = v_gelu_f32(carried_7_0_0);
      const v_f32 gelu_10_0_1 = v_gelu_f32(carried_7_0_1);
      const v_f32 gelu_10_1_0 = v_gelu_f32(carried_7_1_0);
      const v_f32 gelu_10_1_1 = v_gelu_f32(carried_7_1_1);
      v_store_n_f32(y0 + 10 * c + 10 * i1 + j, gelu_10_0_0, -j + 10);
      v_store_n_f32(y0 + 10 * c + 10 * i1 + j + 4, gelu_10_0_1, -j + 6);
      v_store_n_f32(y0 + 10 * c + 10 * i1 + j + 10, gelu_10_1_0, -j + 10);
      v_store_n_f32(y0 + 10 * c + 10 * i1 + j + 14, gelu_10_1_1, -j + 6);
    }
    for (i64 i2 = 2 * to_floordiv((-c + to_min(dim_S, (c + 64))), 2); i2 < -c + to_min(dim_S, (c + 64)); i2 += 1) {
      const v_f32 zero_11 = v_splat_f32(0.0f);
      v_f32 carried_12_0_0 = zero_11;
      v_f32 carried_12_0_1 = zero_11;
      for (i64 k2 = 0; k2 < 6; k2 += 1) {
        const v_f32 x1_13_0_0 = v_load_f32(x1 + 48 * (j / 8) + 8 * k2);
        const v_f32 x1_13_0_1 = v_load_f32(x1 + 48 * (j / 8) + 8 * k2 + 4);
        const v_f32 dot_14_a0 = v_splat_f32(x0[6 * c + 6 * i2 + k2]);
        const v_f32 dot_14_0_0 = v_fma_f32(dot_14_a0, x1_13_0_0, carried_12_0_0);
        const v_f32 dot_14_0_1 = v_fma_f32(dot_14_a0, x1_13_0_1, carried_12_0_1);
        carried_12_0_0 = dot_14_0_0;
        carried_12_0_1 = dot_14_0_1;
      }
      const v_f32 gelu_15_0_0 = v_gelu_f32(carried_12_0_0);
      const v_f32 gelu_15_0_1 = v_gelu_f32(carried_12_0_1);
      v_store_n_f32(y0 + 10 * c + 10 * i2 + j, gelu_15_0_0, -j + 10);
      v_store_n_f32(y0 + 10 * c + 10 * i2 + j + 4, gelu_15_0_1, -j + 6);
    }
  }
}

void RT_NAME(k0_matmul_gelu)(rt_session *s, void *const *b)
{
  const i64 dim_S = s->dims[0];
  (void)dim_S;
  to_call call = {s, b};
  to_run(s, k0_matmul_gelu_part0, &call, 2 * ((dim_S + 63) / 64) /* tasks */, 186 * dim_S + 60 /* operations */);
}
