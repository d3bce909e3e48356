// RUN: grouped-products

!x = !nn.tensor<"B, 8", i8, "B=1..8">
!f = !nn.tensor<"B, 8", f32, "B=1..8">
!r = !nn.tensor<"B, 1", f32, "B=1..8">
!y = !nn.tensor<"B, 2", f32, "B=1..8">
!w = !nn.tensor<"2, 8", i8>
!s = !nn.tensor<"2, 2", f32>
!b = !nn.tensor<"2, 8", f32>

// Codes from -2 to 1 take two bits; their sums are scaled group by group.
// CHECK-LABEL: sym_name = "groups"
// CHECK-NOT: nn.dequantize
// CHECK: fn = #nn.str<"sum">
// CHECK-NOT: nn.dequantize
// CHECK: "nn.grouped_matmul"(%x, %r,
// CHECK-SAME: group = #nn.int<4>, bits = #nn.int<2>
// CHECK-SAME: point = #nn.int<2>
// CHECK-NOT: "nn.matmul"
"nn.entry"() <{sym_name = "groups", inputs = #nn.strs<["x", "r"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x, %r: !r):
  %w = "nn.constant"() <{value = #nn.array<i8, "2, 8", "-2, -1, 0, 1, 1, 0, -1, -2, 1, 1, 1, 1, 0, 0, 0, -2">}> : () -> !w
  %s = "nn.constant"() <{value = #nn.array<f32, "2, 2", "0.5, 0.25, 1, 2">}> : () -> !s
  %a = "nn.dequantize"(%x, %r) <{to = #nn.dtype<f32>}> : (!x, !r) -> !f
  %b = "nn.dequantize"(%w, %s) <{axis = #nn.int<1>, block = #nn.int<4>, to = #nn.dtype<f32>}> : (!w, !s) -> !b
  %y = "nn.matmul"(%a, %b) <{transpose_b = #nn.flag<true>}> : (!f, !b) -> !y
  "nn.return"(%y) : (!y) -> ()
}) : () -> ()
