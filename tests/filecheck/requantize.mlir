// RUN: requantize

!x = !nn.tensor<"B, 4", u8, "B=1..8">
!y = !nn.tensor<"B, 2", i32, "B=1..8">
!f = !nn.tensor<"B, 2", f32, "B=1..8">
!q = !nn.tensor<"B, 2", u8, "B=1..8">
!w = !nn.tensor<"4, 2", i8>
!c = !nn.tensor<"", f32>

// CHECK-LABEL: sym_name = "requantized"
// CHECK: "nn.matmul"
// CHECK-NOT: "relu"
// CHECK-NOT: "div"
// CHECK: #nn.array<f32, "", "0.25">
// CHECK: fn = #nn.str<"mul">
// CHECK-NEXT: fn = #nn.str<"round">
// CHECK-NEXT: "nn.convert"
"nn.entry"() <{sym_name = "requantized", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.constant"() <{value = #nn.array<i8, "4, 2", "1, -2, 3, 4, -5, 6, 7, 8">}> : () -> !w
  %scale = "nn.constant"() <{value = #nn.array<f32, "", "4.0">}> : () -> !c
  %0 = "nn.matmul"(%x, %w) : (!x, !w) -> !y
  %1 = "nn.convert"(%0) <{to = #nn.dtype<f32>}> : (!y) -> !f
  %2 = "nn.map"(%1) <{fn = #nn.str<"relu">}> : (!f) -> !f
  %3 = "nn.map"(%2, %scale) <{fn = #nn.str<"div">}> : (!f, !c) -> !f
  %4 = "nn.map"(%3) <{fn = #nn.str<"round">}> : (!f) -> !f
  %5 = "nn.convert"(%4) <{to = #nn.dtype<u8>, saturate = #nn.flag<true>}> : (!f) -> !q
  "nn.return"(%5) : (!q) -> ()
}) : () -> ()

// What no integer product made stays exact.
// CHECK-LABEL: sym_name = "of_floats"
// CHECK: fn = #nn.str<"div">
"nn.entry"() <{sym_name = "of_floats", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !f):
  %scale = "nn.constant"() <{value = #nn.array<f32, "", "4.0">}> : () -> !c
  %0 = "nn.map"(%x, %scale) <{fn = #nn.str<"div">}> : (!f, !c) -> !f
  %1 = "nn.map"(%0) <{fn = #nn.str<"round">}> : (!f) -> !f
  %2 = "nn.convert"(%1) <{to = #nn.dtype<u8>, saturate = #nn.flag<true>}> : (!f) -> !q
  "nn.return"(%2) : (!q) -> ()
}) : () -> ()

// Both sides of a residual sum take the scale into their own; the clamp is the conversion's.
!r = !nn.tensor<"B, 2", u8, "B=1..8">
// CHECK-LABEL: sym_name = "residual"
// CHECK: "nn.matmul"
// CHECK: "nn.map"(%{{.*}}) <{fn = #nn.str<"mul">}>
// CHECK: "nn.map"(%{{.*}}) <{fn = #nn.str<"mul">}>
// CHECK: fn = #nn.str<"add">
// CHECK-NEXT: fn = #nn.str<"round">
// CHECK-NEXT: "nn.convert"
"nn.entry"() <{sym_name = "residual", inputs = #nn.strs<["x", "r"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x, %r: !r):
  %w = "nn.constant"() <{value = #nn.array<i8, "4, 2", "1, -2, 3, 4, -5, 6, 7, 8">}> : () -> !w
  %s = "nn.constant"() <{value = #nn.array<f32, "", "0.5">}> : () -> !c
  %t = "nn.constant"() <{value = #nn.array<f32, "", "0.25">}> : () -> !c
  %inverse = "nn.constant"() <{value = #nn.array<f32, "", "4.0">}> : () -> !c
  %0 = "nn.matmul"(%x, %w) : (!x, !w) -> !y
  %1 = "nn.convert"(%0) <{to = #nn.dtype<f32>}> : (!y) -> !f
  %2 = "nn.map"(%1, %s) <{fn = #nn.str<"mul">}> : (!f, !c) -> !f
  %3 = "nn.convert"(%r) <{to = #nn.dtype<f32>}> : (!r) -> !f
  %4 = "nn.map"(%3, %t) <{fn = #nn.str<"mul">}> : (!f, !c) -> !f
  %5 = "nn.map"(%2, %4) <{fn = #nn.str<"add">}> : (!f, !f) -> !f
  %6 = "nn.map"(%5) <{fn = #nn.str<"relu">}> : (!f) -> !f
  %7 = "nn.map"(%6, %inverse) <{fn = #nn.str<"mul">}> : (!f, !c) -> !f
  %8 = "nn.map"(%7) <{fn = #nn.str<"round">}> : (!f) -> !f
  %9 = "nn.convert"(%8) <{to = #nn.dtype<u8>, saturate = #nn.flag<true>}> : (!f) -> !q
  "nn.return"(%9) : (!q) -> ()
}) : () -> ()
