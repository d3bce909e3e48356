// RUN: canonicalise

!t = !nn.tensor<"B, S", f32, "B=1..8 S=1..512">
!c = !nn.tensor<"", f32>
!b = !nn.tensor<"B, S", bool, "B=1..8 S=1..512">
!h = !nn.tensor<"B, 12, S, 32", f32, "B=1..8 S=1..512">
!flat = !nn.tensor<"12*B, S, 32", f32, "B=1..8 S=1..512">
!turned = !nn.tensor<"12*B, 32, S", f32, "B=1..8 S=1..512">
!ht = !nn.tensor<"B, 12, 32, S", f32, "B=1..8 S=1..512">

// Adding zero, then multiplying by one, is nothing.
// CHECK-LABEL: sym_name = "neutral"
// CHECK-NEXT: ^bb0([[X:%[0-9a-z]+]]
// CHECK-NEXT: "nn.return"([[X]])
"nn.entry"() <{sym_name = "neutral", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t):
  %zero = "nn.constant"() <{value = #nn.array<f32, "", "0.0">}> : () -> !c
  %one = "nn.constant"() <{value = #nn.array<f32, "", "1.0">}> : () -> !c
  %0 = "nn.map"(%zero, %x) <{fn = #nn.str<"add">}> : (!c, !t) -> !t
  %1 = "nn.map"(%0, %one) <{fn = #nn.str<"mul">}> : (!t, !c) -> !t
  "nn.return"(%1) : (!t) -> ()
}) : () -> ()

// Multiplying by zero stays: infinity and NaN make it NaN.
// CHECK-LABEL: sym_name = "keeps_product_with_zero"
// CHECK: fn = #nn.str<"mul">
"nn.entry"() <{sym_name = "keeps_product_with_zero", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t):
  %zero = "nn.constant"() <{value = #nn.array<f32, "", "0.0">}> : () -> !c
  %0 = "nn.map"(%x, %zero) <{fn = #nn.str<"mul">}> : (!t, !c) -> !t
  "nn.return"(%0) : (!t) -> ()
}) : () -> ()

// Exporters transpose the last axes of a batch of heads through a rank-3 detour.
// CHECK-LABEL: sym_name = "merged_transposition"
// CHECK-NOT: nn.reshape
// CHECK: nn.transpose
// CHECK-SAME: perm = #nn.ints<[0, 1, 3, 2]>
// CHECK-NOT: nn.reshape
// CHECK: nn.return
"nn.entry"() <{sym_name = "merged_transposition", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !h):
  %0 = "nn.reshape"(%x) <{shape = #nn.exprs<"12*B, S, 32", "B=1..8 S=1..512">}> : (!h) -> !flat
  %1 = "nn.transpose"(%0) <{perm = #nn.ints<[0, 2, 1]>}> : (!flat) -> !turned
  %2 = "nn.reshape"(%1) <{shape = #nn.exprs<"B, 12, 32, S", "B=1..8 S=1..512">}> : (!turned) -> !ht
  "nn.return"(%2) : (!ht) -> ()
}) : () -> ()

// Choosing by a negated condition swaps the choices instead.
// CHECK-LABEL: sym_name = "where_not"
// CHECK-NEXT: ^bb0([[C:%[0-9a-z]+]]: {{.*}}, [[X:%[0-9a-z]+]]: {{.*}}, [[Z:%[0-9a-z]+]]:
// CHECK-NEXT: "nn.map"([[C]], [[Z]], [[X]]) <{fn = #nn.str<"where">}>
"nn.entry"() <{sym_name = "where_not", inputs = #nn.strs<["c", "x", "z"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%c: !b, %x: !t, %z: !t):
  %0 = "nn.map"(%c) <{fn = #nn.str<"not">}> : (!b) -> !b
  %1 = "nn.map"(%0, %x, %z) <{fn = #nn.str<"where">}> : (!b, !t, !t) -> !t
  "nn.return"(%1) : (!t) -> ()
}) : () -> ()
