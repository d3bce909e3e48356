// RUN: encode-products{break_even_i8=0.01 break_even_f32=0.9}

!x = !nn.tensor<"B, 256", u8, "B=1..8">
!w = !nn.tensor<"256, 4", i8>
!y = !nn.tensor<"B, 4", i32, "B=1..8">
!xf = !nn.tensor<"B, 8", f32, "B=1..8">
!wf = !nn.tensor<"8, 16", f32>
!yf = !nn.tensor<"B, 16", f32, "B=1..8">

// Some blocks of four outputs are zero: the rest is stored with where it stands.
// CHECK-LABEL: sym_name = "bytes"
// CHECK: %[[starts:[0-9]+]] = "nn.weight"(){{.*}}dtype = #nn.str<"i32">
// CHECK: %[[columns:[0-9]+]] = "nn.weight"(){{.*}}dtype = #nn.str<"i32">
// CHECK: %[[values:[0-9]+]] = "nn.weight"(){{.*}}dtype = #nn.str<"i8">
// CHECK: "nn.block_sparse_matmul"(%{{[0-9a-z]+}}, %[[starts]], %[[columns]], %[[values]]) <{
// CHECK-SAME: group = #nn.int<4>
// CHECK-NOT: "nn.matmul"
"nn.entry"() <{sym_name = "bytes", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"256, 4">, dtype = #nn.str<"i8">}> : () -> !w
  %y = "nn.matmul"(%x, %w) : (!x, !w) -> !y
  "nn.return"(%y) : (!y) -> ()
}) : () -> ()

// Nothing is zero: the matrix stays as it is.
// CHECK-LABEL: sym_name = "floats"
// CHECK: "nn.matmul"
// CHECK-NOT: "nn.block_sparse_matmul"
"nn.entry"() <{sym_name = "floats", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !xf):
  %w = "nn.weight"() <{symbol = #nn.str<"v">, shape = #nn.exprs<"8, 16">, dtype = #nn.str<"f32">}> : () -> !wf
  %y = "nn.matmul"(%x, %w) : (!xf, !wf) -> !yf
  "nn.return"(%y) : (!yf) -> ()
}) : () -> ()
