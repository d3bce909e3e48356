/* reduce max, sub, exp, reduce sum, div -> [3, S]
 *
 * x0: f32 [3, S], read
 * y0: f32 [3, S], written
 */
#include "kernel.h"

static void k0_softmax_part0(void *p, i64 begin, i64 end, int thread)
{
  rt_session *const s = ((to_call *)p)->session;
  void *const *const b = ((to_call *)p)->buffers;
  (void)s, (void)thread;
  const i64 dim_S = s->dims[0];
  (void)dim_S;
  const f32 *restrict x0 = b[0];
  f32 *restrict y0 = b[1];
  f32 *restrict tmp0 = (void *)((char *)b[2] + thread * (64 * ((4 * dim_S + 63) / 64)) /* bytes */);
  for (i64 task = begin; task < end; task++) {
    const i64 i = task;
    const v_f32 constant_1 = v_splat_f32(-__builtin_inff());
    const v_f32 constant_2 = v_splat_f32(-__builtin_inff());
    v_f32 carried_3_0_0 = constant_1;
    v_f32 carried_3_0_1 = constant_1;
    v_f32 carried_3_0_2 = constant_1;
    v_f32 carried_3_0_3 = constant_1;
    for (i64 k = 0; k < 32 * (dim_S / 32); k += 32) {
      const v_f32 x0_4_0_0 = v_load_f32(x0 + dim_S * i + k);
      const v_f32 x0_4_0_1 = v_load_f32(x0 + dim_S * i + k + 8);
      const v_f32 x0_4_0_2 = v_load_f32(x0 + dim_S * i + k + 16);
      const v_f32 x0_4_0_3 = v_load_f32(x0 + dim_S * i + k + 24);
      const v_f32 max_5_0_0 = v_max_f32(carried_3_0_0, x0_4_0_0);
      const v_f32 max_5_0_1 = v_max_f32(carried_3_0_1, x0_4_0_1);
      const v_f32 max_5_0_2 = v_max_f32(carried_3_0_2, x0_4_0_2);
      const v_f32 max_5_0_3 = v_max_f32(carried_3_0_3, x0_4_0_3);
      carried_3_0_0 = max_5_0_0;
      carried_3_0_1 = max_5_0_1;
      carried_3_0_2 = max_5_0_2;
      carried_3_0_3 = max_5_0_3;
    }
    v_f32 carried_6_0_0 = constant_2;
    for (i64 k1 = 32 * (dim_S / 32); k1 < dim_S; k1 += 8) {
      const v_f32 x0_7 = v_load_n_f32(x0 + dim_S * i + k1, dim_S - k1);
      const v_i64 at_8 = v_iota_i64(k1);
      const v_i64 at_9 = v_splat_i64(dim_S);
      const v_u8 lt_10 = v_bool_i64(v_lt_i64(at_8, at_9));
      const v_f32 constant_11 = v_splat_f32(-__builtin_inff());
      const v_f32 where_12 = v_sel_f32(lt_10, x0_7, constant_11);
      const v_f32 max_13 = v_max_f32(carried_6_0_0, where_12);
      carried_6_0_0 = max_13;
    }
    const v_f32 max_14 = v_splat_f32(v_hmax_f32(v_max_f32(v_max_f32(v_max_f32(carried_3_0_0, carried_3_0_1), carried_3_0_2), carried_3_0_3)));
    const v_f32 max_15 = v_splat_f32(v_hmax_f32(carried_6_0_0));
    const v_f32 max_16 = v_max_f32(max_14, max_15);
    const v_f32 zero_17 = v_splat_f32(0.0f);
    const v_f32 zero_18 = v_splat_f32(0.0f);
    v_f32 carried_19_0_0 = zero_17;
    v_f32 carried_19_0_1 = zero_17;
    v_f32 carried_19_0_2 = zero_17;
    v_f32 carried_19_0_3 = zero_17;
    for (i64 k2 = 0; k2 < 32 * (dim_S / 32); k2 += 32) {
      const v_f32 x0_20_0_0 = v_load_f32(x0 + dim_S * i + k2);
      const v_f32 x0_20_0_1 = v_load_f32(x0 + dim_S * i + k2 + 8);
      const v_f32 x0_20_0_2 = v_load_f32(x0 + dim_S * i + k2 + 16);
      const v_f32 x0_20_0_3 = v_load_f32(x0 + dim_S * i + k2 + 24);
      const v_f32 sub_21_0_0 = (x0_20_0_0 - max_16);
      const v_f32 sub_21_0_1 = (x0_20_0_1 - max_16);
      const v_f32 sub_21_0_2 = (x0_20_0_2 - max_16);
      const v_f32 sub_21_0_3 = (x0_20_0_3 - max_16);
      const v_f32 exp_22_0_0 = v_exp_f32(sub_21_0_0);
      const v_f32 exp_22_0_1 = v_exp_f32(sub_21_0_1);
      const v_f32 exp_22_0_2 = v_exp_f32(sub_21_0_2);
      const v_f32 exp_22_0_3 = v_exp_f32(sub_21_0_3);
      v_store_f32(tmp0 + k2, exp_22_0_0);
      v_store_f32(tmp0 + k2 + 8, exp_22_0_1);
      v_store_f32(tmp0 + k2 + 16, exp_22_0_2);
      v_store_f32(tmp0 + k2 + 24, exp_22_0_3);
      const v_f32 add_23_0_0 = (carried_19_0_0 + exp_22_0_0);
      const v_f32 add_23_0_1 = (carried_19_0_1 + exp_22_0_1);
      const v_f32 add_23_0_2 = (carried_19_0_2 + exp_22_0_2);
      const v_f32 add_23_0_3 = (carried_19_0_3 + exp_22_0_3);
      carried_19_0_0 = add_23_0_0;
      carried_19_0_1 = add_23_0_1;
      carried_19_0_2 = add_23_0_2;
      carried_19_0_3 = add_23_0_3;
    }
    v_f32 carried_24_0_0 = zero_18;
    for (i64 k3 = 32 * (dim_S / 32); k3 < dim_S; k3 += 8) {
      const v_f32 x0_25 = v_load_n_f32(x0 + dim_S * i + k3, dim_S - k3);
      const v_f32 sub_26 = (x0_25 - max_16);
      const v_f32 exp_27 = v_exp_f32(sub_26);
      v_store_n_f32(tmp0 + k3, exp_27, dim_S - k3);
      const v_i64 at_28 = v_iota_i64(k3);
      const v_i64 at_29 = v_splat_i64(dim_S);
      const v_u8 lt_30 = v_bool_i64(v_lt_i64(at_28, at_29));
      const v_f32 zero_31 = v_splat_f32(0.0f);
      const v_f32 where_32 = v_sel_f32(lt_30, exp_27, zero_31);
      const v_f32 add_33 = (carried_24_0_0 + where_32);
      carried_24_0_0 = add_33;
    }
    const v_f32 sum_34 = v_splat_f32(v_hsum_f32((((carried_19_0_0 + carried_19_0_1) + carried_19_0_2) + carried_19_0_3)));
    const v_f32 sum_35 = v_splat_f32(v_hsum_f32(carried_24_0_0));
    const v_f32 add_36 = (sum_34 + sum_35);
    for (i64 j = 0; j < 32 * (dim_S / 32); j += 32) {
      const v_f32 tmp0_37_0_0 = v_load_f32(tmp0 + j);
      const v_f32 tmp0_37_0_1 = v_load_f32(tmp0 + j + 8);
      const v_f32 tmp0_37_0_2 = v_load_f32(tmp0 + j + 16);
      const v_f32 tmp0_37_0_3 = v_load_f32(tmp0 + j + 24);
      const v_f32 div_38_0_0 = (tmp0_37_0_0 / add_36);
      const v_f32 div_38_0_1 = (tmp0_37_0_1 / add_36);
      const v_f32 div_38_0_2 = (tmp0_37_0_2 / add_36);
      const v_f32 div_38_0_3 = (tmp0_37_0_3 / add_36);
      v_store_f32(y0 + dim_S * i + j, div_38_0_0);
      v_store_f32(y0 + dim_S * i + j + 8, div_38_0_1);
      v_store_f32(y0 + dim_S * i + j + 16, div_38_0_2);
      v_store_f32(y0 + dim_S * i + j + 24, div_38_0_3);
    }
    for (i64 j1 = 32 * (dim_S / 32); j1 < dim_S; j1 += 8) {
      const v_f32 tmp0_39 = v_load_n_f32(tmp0 + j1, dim_S - j1);
      const v_f32 div_40 = (tmp0_39 / add_36);
      v_store_n_f32(y0 + dim_S * i + j1, div_40, dim_S - j1);
    }
  }
}

void RT_NAME(k0_softmax)(rt_session *s, void *const *b)
{
  const i64 dim_S = s->dims[0];
  (void)dim_S;
  to_call call = {s, b};
  to_run(s, k0_softmax_part0, &call, 3 /* tasks */, 21 * dim_S /* operations */);
}
