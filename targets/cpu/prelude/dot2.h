/* Sums of two neighbouring products of bf16, added to f32 lanes. Two bf16 travel in one i32 lane, in
 * the order of memory. Only for instruction sets that have an instruction for it, and each with the
 * roundings of its own. With a lane's a0, a1, b0, b1 and c:
 *
 *   AVX512-BF16   (c + a1 * b1) + a0 * b0, each step rounded once, to nearest even
 *   BF16 of Arm   c + (a0 * b0 + a1 * b1), each of the two sums rounded to odd: what lies between two
 *                 floats becomes the one whose last bit is 1
 *
 * Products are exact. Both take subnormal numbers, bf16 and f32, as zeros, and give zeros for them.
 * Sources: VDPBF16PS in Intel's Software Developer's Manual, volume 2; BFDOT and BFDotAdd in the Arm
 * Architecture Reference Manual. Included by vec.h. */
#ifndef TAPEOUT_DOT2_H
#define TAPEOUT_DOT2_H

#if TO_AVX512 && defined(__AVX512BF16__)
/* As text: how its builtin takes bf16 changed from version to version of the compilers. */
TO_FN v_f32 v_dot2_bf16_bf16(v_i32 a, v_i32 b, v_f32 c) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
  return c;
}
#elif TO_AVX512
/* The same bits without the instruction, on AVX-512 alone: a stand-in for tests, not for speed. */
TO_FN v_f32 to_flushed(v_f32 x) {
  v_i32 bits = (v_i32)x;
  return (v_f32)v_blend_i32((bits & 0x7F800000) == 0, bits & INT32_MIN, bits);
}
TO_FN v_f32 to_flushed_fma(v_f32 a, v_f32 b, v_f32 c) {
  a = to_flushed(a), b = to_flushed(b), c = to_flushed(c);
  v_f32 y = v_fma_f32(a, b, c);
  /* What rounds up to the least normal number only because subnormals are sparse is tiny too. */
  v_f32 enlarged = v_fma_f32(a * 0x1p64f, b, c * 0x1p64f);
  v_i32 tiny = v_abs_f32(enlarged) < 0x1p-62f;
  return (v_f32)v_blend_i32(tiny, (v_i32)y & INT32_MIN, (v_i32)y);
}
TO_FN v_f32 v_dot2_bf16_bf16(v_i32 a, v_i32 b, v_f32 c) {
  const v_i32 odd = v_splat_i32((i32)0xFFFF0000);
  c = to_flushed_fma((v_f32)(a & odd), (v_f32)(b & odd), c);
  return to_flushed_fma((v_f32)((v_u32)a << 16), (v_f32)((v_u32)b << 16), c);
}
#elif TO_NEON && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
TO_FN v_f32 v_dot2_bf16_bf16(v_i32 a, v_i32 b, v_f32 c) {
  return (v_f32)vbfdotq_f32((float32x4_t)c, (bfloat16x8_t)a, (bfloat16x8_t)b);
}
#endif

#endif
