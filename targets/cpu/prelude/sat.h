/* Saturating conversions to 8 and 16 bits: clamped to T's range, NaN as the lowest value. From f32
 * v_sat rounds to the nearest integer, ties to even, and v_clip cuts toward zero. Included by
 * cvt.h. */
#ifndef TAPEOUT_SAT_H
#define TAPEOUT_SAT_H

#if TO_AVX512
TO_FN v_i32 to_nearest_i32(v_f32 x) {
  return __builtin_ia32_cvtps2dq512_mask(x, v_zero_i32(), (u16)-1, 4);
}
#elif TO_AVX2
TO_FN v_i32 to_nearest_i32(v_f32 x) { return __builtin_ia32_cvtps2dq256(x); }
#elif defined(__SSE2__)
TO_FN v_i32 to_nearest_i32(v_f32 x) { return __builtin_ia32_cvtps2dq(x); }
#elif TO_NEON
TO_FN v_i32 to_nearest_i32(v_f32 x) { return (v_i32)vcvtnq_s32_f32((float32x4_t)x); }
#else
TO_FN v_i32 to_nearest_i32(v_f32 x) { return TO_STEP(v_round_f32(x), i32); }
#endif

#define TO_SATURATE_I32(T, low, high)                                 \
  TO_FN v_##T v_sat_i32_##T(v_i32 x) {                                \
    x = v_max_i32(v_min_i32(x, v_splat_i32(high)), v_splat_i32(low)); \
    return to_low_##T(x);                                             \
  }
#define TO_SATURATE_F32(T, within, narrow)                                           \
  TO_FN v_##T v_sat_f32_##T(v_f32 x) { return narrow(to_nearest_i32(within)); }      \
  TO_FN v_##T v_clip_f32_##T(v_f32 x) { return narrow(to_cut_i32(within)); }
#define TO_WITHIN(low, high) \
  v_fastmin_f32(v_fastmax_f32(x, v_splat_f32(low)), v_splat_f32(high))
TO_SATURATE_I32(i8, -128, 127)
TO_SATURATE_I32(u8, 0, 255)
TO_SATURATE_I32(i16, -32768, 32767)
TO_SATURATE_I32(u16, 0, 65535)

#if TO_AVX512
TO_FN v_i32 to_cut_i32(v_f32 x) {
  return __builtin_ia32_cvttps2dq512_mask(x, v_zero_i32(), (u16)-1, 4);
}
TO_FN v_u8 to_pack_u8(v_i32 x) {
  return (v_u8)__builtin_ia32_pmovusdb512_mask(x, (to_xmm_i8){0}, (u16)-1);
}
TO_FN v_i8 to_pack_i8(v_i32 x) {
  return (v_i8)__builtin_ia32_pmovsdb512_mask(x, (to_xmm_i8){0}, (u16)-1);
}
/* x86 converts what no i32 holds, NaN too, to 0x80000000: the largest of unsigned numbers, which
 * narrows to 255, the least of signed ones. One limit is left to set, so that NaN goes low. */
TO_SATURATE_F32(u8, v_fastmax_f32(x, v_zero_f32()), to_pack_u8)
TO_SATURATE_F32(i8, v_fastmin_f32(v_splat_f32(127), x), to_pack_i8)
#else
TO_FN v_i32 to_cut_i32(v_f32 x) { return TO_STEP(x, i32); }
#if TO_AVX2
typedef int to_xmm_i32 __attribute__((vector_size(16)));
typedef short to_xmm_i16 __attribute__((vector_size(16)));
TO_FN to_xmm_i16 to_pack_i16(v_i32 x) {
  to_xmm_i32 half[2];
  __builtin_memcpy(half, &x, sizeof(half));
  return __builtin_ia32_packssdw128(half[0], half[1]);
}
TO_FN v_u8 to_first_u8(to_xmm_i8 x) { return (v_u8)((to_xmm_i64)x)[0]; }
TO_FN v_u8 to_pack_u8(v_i32 x) {
  to_xmm_i16 y = to_pack_i16(x);
  return to_first_u8(__builtin_ia32_packuswb128(y, y));
}
TO_FN v_i8 to_pack_i8(v_i32 x) {
  to_xmm_i16 y = to_pack_i16(x);
  return (v_i8)to_first_u8(__builtin_ia32_packsswb128(y, y));
}
/* As above, but signed numbers narrow to both types. */
TO_SATURATE_F32(u8, v_fastmin_f32(v_splat_f32(255), x), to_pack_u8)
TO_SATURATE_F32(i8, v_fastmin_f32(v_splat_f32(127), x), to_pack_i8)
#else
TO_SATURATE_F32(u8, TO_WITHIN(0, 255), to_low_u8)
TO_SATURATE_F32(i8, TO_WITHIN(-128, 127), to_low_i8)
#endif
#endif
TO_SATURATE_F32(i16, TO_WITHIN(-32768, 32767), to_low_i16)
TO_SATURATE_F32(u16, TO_WITHIN(0, 65535), to_low_u16)

#endif
