// RUN: recompose-norms

!t = !nn.tensor<"B, S, 16", f32, "B=1..8 S=1..512">
!m = !nn.tensor<"B, S, 1", f32, "B=1..8 S=1..512">
!v = !nn.tensor<"16", f32>
!c = !nn.tensor<"", f32>

// CHECK-LABEL: sym_name = "rms_norm"
// CHECK-NEXT: ^bb0([[X:%[0-9a-z]+]]: {{.*}}, [[W:%[0-9a-z]+]]:
// CHECK-NEXT: "nn.rms_norm"([[X]], [[W]]) <{axis = #nn.int<2>, epsilon = #nn.float<9.99{{[0-9]+}}e-06>}>
// CHECK-NEXT: nn.return
"nn.entry"() <{sym_name = "rms_norm", inputs = #nn.strs<["x", "w"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t, %w: !v):
  %n = "nn.constant"() <{value = #nn.array<f32, "", "0.0625">}> : () -> !c
  %e = "nn.constant"() <{value = #nn.array<f32, "", "1e-05">}> : () -> !c
  %0 = "nn.map"(%x, %x) <{fn = #nn.str<"mul">}> : (!t, !t) -> !t
  %1 = "nn.reduce"(%0) <{fn = #nn.str<"sum">, axes = #nn.ints<[-1]>, keepdims = #nn.flag<true>}> : (!t) -> !m
  %2 = "nn.map"(%1, %n) <{fn = #nn.str<"mul">}> : (!m, !c) -> !m
  %3 = "nn.map"(%2, %e) <{fn = #nn.str<"add">}> : (!m, !c) -> !m
  %4 = "nn.map"(%3) <{fn = #nn.str<"rsqrt">}> : (!m) -> !m
  %5 = "nn.map"(%x, %4) <{fn = #nn.str<"mul">}> : (!t, !m) -> !t
  %6 = "nn.map"(%w, %5) <{fn = #nn.str<"mul">}> : (!v, !t) -> !t
  "nn.return"(%6) : (!t) -> ()
}) : () -> ()

// The sum of squares is not their mean.
// CHECK-LABEL: sym_name = "keeps_a_sum_of_squares"
// CHECK-NOT: rms_norm
// CHECK: nn.return
"nn.entry"() <{sym_name = "keeps_a_sum_of_squares", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t):
  %e = "nn.constant"() <{value = #nn.array<f32, "", "1e-05">}> : () -> !c
  %0 = "nn.map"(%x, %x) <{fn = #nn.str<"mul">}> : (!t, !t) -> !t
  %1 = "nn.reduce"(%0) <{fn = #nn.str<"sum">, axes = #nn.ints<[-1]>, keepdims = #nn.flag<true>}> : (!t) -> !m
  %2 = "nn.map"(%1, %e) <{fn = #nn.str<"add">}> : (!m, !c) -> !m
  %3 = "nn.map"(%2) <{fn = #nn.str<"rsqrt">}> : (!m) -> !m
  %4 = "nn.map"(%x, %3) <{fn = #nn.str<"mul">}> : (!t, !m) -> !t
  "nn.return"(%4) : (!t) -> ()
}) : () -> ()

// CHECK-LABEL: sym_name = "softmax"
// CHECK: "nn.softmax"({{.*}}) <{axis = #nn.int<2>}>
// CHECK-NEXT: nn.return
"nn.entry"() <{sym_name = "softmax", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t):
  %0 = "nn.reduce"(%x) <{fn = #nn.str<"max">, axes = #nn.ints<[2]>, keepdims = #nn.flag<true>}> : (!t) -> !m
  %1 = "nn.map"(%x, %0) <{fn = #nn.str<"sub">}> : (!t, !m) -> !t
  %2 = "nn.map"(%1) <{fn = #nn.str<"exp">}> : (!t) -> !t
  %3 = "nn.reduce"(%2) <{fn = #nn.str<"sum">, axes = #nn.ints<[2]>, keepdims = #nn.flag<true>}> : (!t) -> !m
  %4 = "nn.map"(%2, %3) <{fn = #nn.str<"div">}> : (!t, !m) -> !t
  "nn.return"(%4) : (!t) -> ()
}) : () -> ()
