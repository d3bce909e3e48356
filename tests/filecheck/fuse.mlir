// RUN: fuse

!x = !nn.tensor<"B, 16", f32, "B=1..8">
!w = !nn.tensor<"16, 16", f32>

// Bias, activation and residual join the product; the norm that follows reads its result from
// memory, since the residual stream needs it too.
// CHECK-LABEL: sym_name = "k0_matmul_add_gelu"
// CHECK: nn.matmul
// CHECK: fn = #nn.str<"add">
// CHECK: fn = #nn.str<"gelu">
// CHECK: nn.return
// CHECK: sym_name = "k1_softmax_add"
// CHECK: nn.softmax
// CHECK-NEXT: fn = #nn.str<"add">
// CHECK: sym_name = "one_layer"
// CHECK: nn.call{{.*}}callee = "k0_matmul_add_gelu"
// CHECK-NEXT: nn.call{{.*}}callee = "k1_softmax_add"
// CHECK-NEXT: nn.return
"nn.entry"() <{sym_name = "one_layer", inputs = #nn.strs<["x", "b"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x, %b: !nn.tensor<"16", f32>):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"16, 16">, dtype = #nn.str<"f32">}> : () -> !w
  %0 = "nn.matmul"(%x, %w) <{transpose_b = #nn.flag<false>}> : (!x, !w) -> !x
  %1 = "nn.map"(%0, %b) <{fn = #nn.str<"add">}> : (!x, !nn.tensor<"16", f32>) -> !x
  %2 = "nn.map"(%1) <{fn = #nn.str<"gelu">}> : (!x) -> !x
  %3 = "nn.softmax"(%2) <{axis = #nn.int<-1>}> : (!x) -> !x
  %4 = "nn.map"(%3, %2) <{fn = #nn.str<"add">}> : (!x, !x) -> !x
  "nn.return"(%4) : (!x) -> ()
}) : () -> ()

// Equal groups call one kernel.
// CHECK-LABEL: sym_name = "two_equal"
// CHECK: callee = "[[K:k[0-9]+_exp]]"
// CHECK-NEXT: callee = "[[K]]"
"nn.entry"() <{sym_name = "two_equal", inputs = #nn.strs<["x", "y"]>, outputs = #nn.strs<["a", "b"]>}> ({
^bb0(%x: !x, %y: !x):
  %0 = "nn.map"(%x) <{fn = #nn.str<"exp">}> : (!x) -> !x
  %1 = "nn.map"(%y) <{fn = #nn.str<"exp">}> : (!x) -> !x
  "nn.return"(%0, %1) : (!x, !x) -> ()
}) : () -> ()
