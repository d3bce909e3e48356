// RUN: split-phases

!x = !nn.tensor<"B, 3, 8, 8", f32, "B=1..8">
!y = !nn.tensor<"B, 4, 16, 16", f32, "B=1..8">
!w = !nn.tensor<"3, 4, 4, 4", f32>
!r = !nn.tensor<"3, 4, 3, 3", f32>
!z = !nn.tensor<"B, 4, 19, 19", f32, "B=1..8">

// Four phases of a kernel of 2 x 2 each; the pads cut a row and a column off either side.
// CHECK-LABEL: sym_name = "stride_of_two"
// CHECK: nn.conv
// CHECK-SAME: pads = #nn.ints<[1, 1, 1, 1]>
// CHECK-SAME: "16, 3, 2, 2"
// CHECK-NOT: nn.conv_transpose
// CHECK: nn.transpose
// CHECK-SAME: perm = #nn.ints<[0, 3, 4, 1, 5, 2]>
// CHECK: nn.slice
// CHECK-SAME: starts = #nn.exprs<"0, 0, 1, 1">
// CHECK: nn.return
"nn.entry"() <{sym_name = "stride_of_two", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"3, 4, 4, 4">, dtype = #nn.str<"f32">}> : () -> !w
  %0 = "nn.conv_transpose"(%x, %w) <{strides = #nn.ints<[2, 2]>, pads = #nn.ints<[1, 1, 1, 1]>, dilations = #nn.ints<[1, 1]>, output_padding = #nn.ints<[0, 0]>, groups = #nn.int<1>}> : (!x, !w) -> !y
  "nn.return"(%0) : (!y) -> ()
}) : () -> ()

// Weights that dilation and stride both pull apart are not evenly spaced in a phase.
// CHECK-LABEL: sym_name = "keeps_dilated_strides"
// CHECK: nn.conv_transpose
"nn.entry"() <{sym_name = "keeps_dilated_strides", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"r">, shape = #nn.exprs<"3, 4, 3, 3">, dtype = #nn.str<"f32">}> : () -> !r
  %0 = "nn.conv_transpose"(%x, %w) <{strides = #nn.ints<[2, 2]>, pads = #nn.ints<[0, 0, 0, 0]>, dilations = #nn.ints<[2, 2]>, output_padding = #nn.ints<[0, 0]>, groups = #nn.int<1>}> : (!x, !r) -> !z
  "nn.return"(%0) : (!z) -> ()
}) : () -> ()
