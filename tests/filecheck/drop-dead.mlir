// RUN: drop-dead

!t = !nn.tensor<"B, S", f32, "B=1..8 S=1..512">
!places = !nn.tensor<"2, n", i64>
!c = !nn.tensor<"", f32>
!n = !nn.tensor<"n", f32>

// CHECK-LABEL: sym_name = "unread_chain"
// CHECK-NOT: nn.map
// CHECK: nn.return
"nn.entry"() <{sym_name = "unread_chain", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t):
  %0 = "nn.map"(%x) <{fn = #nn.str<"exp">}> : (!t) -> !t
  %1 = "nn.map"(%0) <{fn = #nn.str<"neg">}> : (!t) -> !t
  "nn.return"(%x) : (!t) -> ()
}) : () -> ()

// Nobody reads the places, but the output has as many elements as there are.
// CHECK-LABEL: sym_name = "keeps_what_decides_a_size"
// CHECK: nn.non_zero
// CHECK: nn.expand
"nn.entry"() <{sym_name = "keeps_what_decides_a_size", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t):
  %0 = "nn.non_zero"(%x) <{count = #nn.exprs<"n">}> : (!t) -> !places
  %one = "nn.constant"() <{value = #nn.array<f32, "", "1.0">}> : () -> !c
  %1 = "nn.expand"(%one) <{shape = #nn.exprs<"n">}> : (!c) -> !n
  "nn.return"(%1) : (!n) -> ()
}) : () -> ()
