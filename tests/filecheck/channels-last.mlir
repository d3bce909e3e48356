// RUN: channels-last

!x = !nn.tensor<"B, 3, 8, 8", f32, "B=1..8">
!y = !nn.tensor<"B, 4, 8, 8", f32, "B=1..8">
!w = !nn.tensor<"4, 3, 3, 3", f32>
!u = !nn.tensor<"4, 4, 3, 3", f32>

// One transposition on the way in, one on the way out, none between the convolutions.
// CHECK-LABEL: sym_name = "two_convolutions"
// CHECK: nn.transpose
// CHECK-SAME: perm = #nn.ints<[0, 2, 3, 1]>
// CHECK-NOT: nn.transpose
// CHECK: nn.conv
// CHECK-SAME: channels_last = #nn.flag<true>
// CHECK-NOT: nn.transpose
// CHECK: nn.map
// CHECK-NOT: nn.transpose
// CHECK: nn.conv
// CHECK-SAME: channels_last = #nn.flag<true>
// CHECK-NEXT: nn.transpose
// CHECK-SAME: perm = #nn.ints<[0, 3, 1, 2]>
// CHECK-NEXT: nn.return
"nn.entry"() <{sym_name = "two_convolutions", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"4, 3, 3, 3">, dtype = #nn.str<"f32">}> : () -> !w
  %u = "nn.weight"() <{symbol = #nn.str<"u">, shape = #nn.exprs<"4, 4, 3, 3">, dtype = #nn.str<"f32">}> : () -> !u
  %0 = "nn.conv"(%x, %w) <{strides = #nn.ints<[1, 1]>, pads = #nn.ints<[1, 1, 1, 1]>, dilations = #nn.ints<[1, 1]>, groups = #nn.int<1>, channels_last = #nn.flag<false>}> : (!x, !w) -> !y
  %1 = "nn.map"(%0) <{fn = #nn.str<"relu">}> : (!y) -> !y
  %2 = "nn.conv"(%1, %u) <{strides = #nn.ints<[1, 1]>, pads = #nn.ints<[1, 1, 1, 1]>, dilations = #nn.ints<[1, 1]>, groups = #nn.int<1>, channels_last = #nn.flag<false>}> : (!y, !u) -> !y
  "nn.return"(%2) : (!y) -> ()
}) : () -> ()

// Without a convolution there is nothing to turn.
// CHECK-LABEL: sym_name = "keeps_plain_maps"
// CHECK-NOT: nn.transpose
// CHECK: nn.return
"nn.entry"() <{sym_name = "keeps_plain_maps", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %0 = "nn.map"(%x) <{fn = #nn.str<"relu">}> : (!x) -> !x
  "nn.return"(%0) : (!x) -> ()
}) : () -> ()
