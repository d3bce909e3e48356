// RUN: recompose-experts

!w = !nn.tensor<"4, 6, 8", f32>
!e = !nn.tensor<"T, 2", i64, "T=1..64">
!gathered = !nn.tensor<"T, 2, 6, 8", f32, "T=1..64">
!x = !nn.tensor<"T, 2, 8, 1", f32, "T=1..64">
!y = !nn.tensor<"T, 2, 6, 1", f32, "T=1..64">

// Both axes of the indices are rows; the matrices come first, so they are transposed.
// CHECK-LABEL: sym_name = "matrices_by_columns"
// CHECK-NOT: nn.gather
// CHECK: nn.expert_matmul
// CHECK-SAME: transpose_b = #nn.flag<true>
// CHECK-SAME: (!nn.tensor<"2*T, 8", f32, "T=1..64">, !nn.tensor<"4, 6, 8", f32>, !nn.tensor<"2*T", i64, "T=1..64">) -> !nn.tensor<"2*T, 6"
// CHECK-NEXT: -> !nn.tensor<"T, 2, 6, 1"
"nn.entry"() <{sym_name = "matrices_by_columns", inputs = #nn.strs<["x", "e"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x, %e: !e):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"4, 6, 8">, dtype = #nn.str<"f32">}> : () -> !w
  %0 = "nn.gather"(%w, %e) <{axis = #nn.int<0>}> : (!w, !e) -> !gathered
  %1 = "nn.matmul"(%0, %x) <{transpose_b = #nn.flag<false>}> : (!gathered, !x) -> !y
  "nn.return"(%1) : (!y) -> ()
}) : () -> ()

// Two rows for each index are a batch of products.
// CHECK-LABEL: sym_name = "keeps_a_batch"
// CHECK: nn.gather
// CHECK: nn.matmul
"nn.entry"() <{sym_name = "keeps_a_batch", inputs = #nn.strs<["x", "e"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !nn.tensor<"T, 2, 8, 2", f32, "T=1..64">, %e: !e):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"4, 6, 8">, dtype = #nn.str<"f32">}> : () -> !w
  %0 = "nn.gather"(%w, %e) <{axis = #nn.int<0>}> : (!w, !e) -> !gathered
  %1 = "nn.matmul"(%0, %x) <{transpose_b = #nn.flag<false>}> : (!gathered, !nn.tensor<"T, 2, 8, 2", f32, "T=1..64">) -> !nn.tensor<"T, 2, 6, 2", f32, "T=1..64">
  "nn.return"(%1) : (!nn.tensor<"T, 2, 6, 2", f32, "T=1..64">) -> ()
}) : () -> ()

// Matrices that an input gives are laid out anew for each expert: a gather may read less.
// CHECK-LABEL: sym_name = "keeps_inputs"
// CHECK: nn.gather
// CHECK: nn.matmul
"nn.entry"() <{sym_name = "keeps_inputs", inputs = #nn.strs<["w", "x", "e"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%w: !w, %x: !x, %e: !e):
  %0 = "nn.gather"(%w, %e) <{axis = #nn.int<0>}> : (!w, !e) -> !gathered
  %1 = "nn.matmul"(%0, %x) <{transpose_b = #nn.flag<false>}> : (!gathered, !x) -> !y
  "nn.return"(%1) : (!y) -> ()
}) : () -> ()
