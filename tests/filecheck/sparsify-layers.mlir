// RUN: sparsify-layers{sparsity="unstructured@0.0001"},drop-dead

!x = !nn.tensor<"B, 8", f32, "B=1..8">
!w = !nn.tensor<"8, 256", f32>
!y = !nn.tensor<"B, 256", f32, "B=1..8">

// The product stays and reads a new weight. So small a part rounds to no weight at all, and the
// numbers stay.
// CHECK-LABEL: sym_name = "layer"
// CHECK-NOT: #nn.str<"w">
// CHECK: %[[pruned:[0-9]+]] = "nn.weight"()
// CHECK: "nn.matmul"(%{{[0-9a-z]+}}, %[[pruned]])
"nn.entry"() <{sym_name = "layer", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"8, 256">, dtype = #nn.str<"f32">}> : () -> !w
  %y = "nn.matmul"(%x, %w) : (!x, !w) -> !y
  "nn.return"(%y) : (!y) -> ()
}) : () -> ()
