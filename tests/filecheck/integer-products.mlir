// RUN: integer-products

!x = !nn.tensor<"B, 4", u8, "B=1..8">
!a = !nn.tensor<"B, 4", f32, "B=1..8">
!y = !nn.tensor<"B, 2", f32, "B=1..8">
!w = !nn.tensor<"4, 2", i8>
!b = !nn.tensor<"4, 2", f32>
!c = !nn.tensor<"", f32>
!z = !nn.tensor<"", u8>

// CHECK-LABEL: sym_name = "product"
// CHECK: "nn.matmul"(%x,
// CHECK-SAME: i32
// CHECK: #nn.array<i32, "2", "32, 40">
// CHECK: fn = #nn.str<"sub">
// CHECK: "nn.convert"
// CHECK: #nn.array<f32, "", "0.125">
// CHECK: fn = #nn.str<"mul">
"nn.entry"() <{sym_name = "product", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.constant"() <{value = #nn.array<i8, "4, 2", "1, 2, 3, 4, 5, 6, 7, 8">}> : () -> !w
  %sx = "nn.constant"() <{value = #nn.array<f32, "", "0.25">}> : () -> !c
  %sw = "nn.constant"() <{value = #nn.array<f32, "", "0.5">}> : () -> !c
  %zx = "nn.constant"() <{value = #nn.array<u8, "", "2">}> : () -> !z
  %a = "nn.dequantize"(%x, %sx, %zx) <{to = #nn.dtype<f32>}> : (!x, !c, !z) -> !a
  %b = "nn.dequantize"(%w, %sw) <{to = #nn.dtype<f32>}> : (!w, !c) -> !b
  %y = "nn.matmul"(%a, %b) : (!a, !b) -> !y
  "nn.return"(%y) : (!y) -> ()
}) : () -> ()

// The largest of numbers of one scale is the largest of their codes.
!image = !nn.tensor<"B, 2, 4, 4", u8, "B=1..8">
!floats = !nn.tensor<"B, 2, 4, 4", f32, "B=1..8">
!pooled = !nn.tensor<"B, 2, 2, 2", f32, "B=1..8">
// CHECK-LABEL: sym_name = "largest"
// CHECK: "nn.pool"(%x)
// CHECK-NEXT: "nn.dequantize"
"nn.entry"() <{sym_name = "largest", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !image):
  %s = "nn.constant"() <{value = #nn.array<f32, "", "0.25">}> : () -> !c
  %0 = "nn.dequantize"(%x, %s) <{to = #nn.dtype<f32>}> : (!image, !c) -> !floats
  %1 = "nn.pool"(%0) <{fn = #nn.str<"max">, kernel = #nn.ints<[2, 2]>, strides = #nn.ints<[2, 2]>, pads = #nn.ints<[0, 0, 0, 0]>, dilations = #nn.ints<[1, 1]>, sizes = #nn.exprs<"2, 2">}> : (!floats) -> !pooled
  "nn.return"(%1) : (!pooled) -> ()
}) : () -> ()
