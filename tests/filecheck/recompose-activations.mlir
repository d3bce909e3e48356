// RUN: recompose-activations

!t = !nn.tensor<"B, S", f32, "B=1..8 S=1..512">
!c = !nn.tensor<"", f32>

// CHECK-LABEL: sym_name = "gelu_by_erf"
// CHECK-NEXT: ^bb0
// CHECK-NEXT: fn = #nn.str<"gelu">
// CHECK-NEXT: nn.return
"nn.entry"() <{sym_name = "gelu_by_erf", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t):
  %root = "nn.constant"() <{value = #nn.array<f32, "", "1.4142135381698608">}> : () -> !c
  %one = "nn.constant"() <{value = #nn.array<f32, "", "1.0">}> : () -> !c
  %half = "nn.constant"() <{value = #nn.array<f32, "", "0.5">}> : () -> !c
  %0 = "nn.map"(%x, %root) <{fn = #nn.str<"div">}> : (!t, !c) -> !t
  %1 = "nn.map"(%0) <{fn = #nn.str<"erf">}> : (!t) -> !t
  %2 = "nn.map"(%1, %one) <{fn = #nn.str<"add">}> : (!t, !c) -> !t
  %3 = "nn.map"(%x, %half) <{fn = #nn.str<"mul">}> : (!t, !c) -> !t
  %4 = "nn.map"(%3, %2) <{fn = #nn.str<"mul">}> : (!t, !t) -> !t
  "nn.return"(%4) : (!t) -> ()
}) : () -> ()

// The root of three is not the root of two.
// CHECK-LABEL: sym_name = "keeps_another_divisor"
// CHECK: fn = #nn.str<"erf">
// CHECK-NOT: gelu
// CHECK: nn.return
"nn.entry"() <{sym_name = "keeps_another_divisor", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t):
  %root = "nn.constant"() <{value = #nn.array<f32, "", "1.7320507764816284">}> : () -> !c
  %one = "nn.constant"() <{value = #nn.array<f32, "", "1.0">}> : () -> !c
  %half = "nn.constant"() <{value = #nn.array<f32, "", "0.5">}> : () -> !c
  %0 = "nn.map"(%x, %root) <{fn = #nn.str<"div">}> : (!t, !c) -> !t
  %1 = "nn.map"(%0) <{fn = #nn.str<"erf">}> : (!t) -> !t
  %2 = "nn.map"(%1, %one) <{fn = #nn.str<"add">}> : (!t, !c) -> !t
  %3 = "nn.map"(%x, %half) <{fn = #nn.str<"mul">}> : (!t, !c) -> !t
  %4 = "nn.map"(%3, %2) <{fn = #nn.str<"mul">}> : (!t, !t) -> !t
  "nn.return"(%4) : (!t) -> ()
}) : () -> ()

// CHECK-LABEL: sym_name = "silu"
// CHECK-NEXT: ^bb0
// CHECK-NEXT: fn = #nn.str<"silu">
"nn.entry"() <{sym_name = "silu", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t):
  %0 = "nn.map"(%x) <{fn = #nn.str<"sigmoid">}> : (!t) -> !t
  %1 = "nn.map"(%0, %x) <{fn = #nn.str<"mul">}> : (!t, !t) -> !t
  "nn.return"(%1) : (!t) -> ()
}) : () -> ()
