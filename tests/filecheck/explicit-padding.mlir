// RUN: explicit-padding

!x = !nn.tensor<"B, 8, 8, 3", f32, "B=1..8">
!y = !nn.tensor<"B, 8, 8, 4", f32, "B=1..8">
!w = !nn.tensor<"4, 3, 3, 3", f32>

// The border becomes a pad of its own, which the kernel before it can write.
// CHECK-LABEL: sym_name = "same_padding"
// CHECK: "nn.pad"({{.*}}low = #nn.exprs<"0, 1, 1, 0">, high = #nn.exprs<"0, 1, 1, 0">
// CHECK-NEXT: "nn.conv"({{.*}}pads = #nn.ints<[0, 0, 0, 0]>
"nn.entry"() <{sym_name = "same_padding", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"4, 3, 3, 3">, dtype = #nn.str<"f32">}> : () -> !w
  %0 = "nn.conv"(%x, %w) <{strides = #nn.ints<[1, 1]>, pads = #nn.ints<[1, 1, 1, 1]>, dilations = #nn.ints<[1, 1]>, groups = #nn.int<1>, channels_last = #nn.flag<true>}> : (!x, !w) -> !y
  "nn.return"(%0) : (!y) -> ()
}) : () -> ()

!z = !nn.tensor<"B, 6, 6, 4", f32, "B=1..8">

// Without padding there is nothing to write out.
// CHECK-LABEL: sym_name = "keeps_unpadded"
// CHECK-NOT: nn.pad
// CHECK: nn.conv
"nn.entry"() <{sym_name = "keeps_unpadded", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"4, 3, 3, 3">, dtype = #nn.str<"f32">}> : () -> !w
  %0 = "nn.conv"(%x, %w) <{strides = #nn.ints<[1, 1]>, pads = #nn.ints<[0, 0, 0, 0]>, dilations = #nn.ints<[1, 1]>, groups = #nn.int<1>, channels_last = #nn.flag<true>}> : (!x, !w) -> !z
  "nn.return"(%0) : (!z) -> ()
}) : () -> ()
