// RUN: plain-numbers

!x = !nn.tensor<"4", i8>
!y = !nn.tensor<"4", f32>
!c = !nn.tensor<"", f32>

// CHECK-LABEL: sym_name = "decoded"
// CHECK: "nn.convert"(%x)
// CHECK-NEXT: fn = #nn.str<"mul">
// CHECK-NEXT: "nn.return"
"nn.entry"() <{sym_name = "decoded", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %s = "nn.constant"() <{value = #nn.array<f32, "", "0.25">}> : () -> !c
  %y = "nn.dequantize"(%x, %s) <{to = #nn.dtype<f32>}> : (!x, !c) -> !y
  "nn.return"(%y) : (!y) -> ()
}) : () -> ()
