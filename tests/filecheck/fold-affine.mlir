// RUN: fold-affine

!x = !nn.tensor<"B, 3, 8, 8", f32, "B=1..8">
!y = !nn.tensor<"B, 4, 8, 8", f32, "B=1..8">
!w = !nn.tensor<"4, 3, 3, 3", f32>
!v = !nn.tensor<"4, 1, 1", f32>

// A batch norm behind a convolution sits in its weights and its bias.
// CHECK-LABEL: sym_name = "batch_norm"
// CHECK: "nn.conv"({{%[0-9a-z]+, %[0-9a-z]+, %[0-9a-z]+}})
// CHECK-NEXT: nn.return
"nn.entry"() <{sym_name = "batch_norm", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"4, 3, 3, 3">, dtype = #nn.str<"f32">}> : () -> !w
  %scale = "nn.constant"() <{value = #nn.array<f32, "4, 1, 1", "1.0, 2.0, 3.0, 4.0">}> : () -> !v
  %shift = "nn.constant"() <{value = #nn.array<f32, "4, 1, 1", "0.5, -1.0, 0.0, 2.0">}> : () -> !v
  %0 = "nn.conv"(%x, %w) <{strides = #nn.ints<[1, 1]>, pads = #nn.ints<[1, 1, 1, 1]>, dilations = #nn.ints<[1, 1]>, groups = #nn.int<1>, channels_last = #nn.flag<false>}> : (!x, !w) -> !y
  %1 = "nn.map"(%0, %scale) <{fn = #nn.str<"mul">}> : (!y, !v) -> !y
  %2 = "nn.map"(%1, %shift) <{fn = #nn.str<"add">}> : (!y, !v) -> !y
  "nn.return"(%2) : (!y) -> ()
}) : () -> ()

// Someone else reads the convolution: scaling its weights would change what they see.
// CHECK-LABEL: sym_name = "keeps_shared_convolution"
// CHECK: nn.conv
// CHECK-NEXT: fn = #nn.str<"mul">
"nn.entry"() <{sym_name = "keeps_shared_convolution", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y", "z"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"4, 3, 3, 3">, dtype = #nn.str<"f32">}> : () -> !w
  %scale = "nn.constant"() <{value = #nn.array<f32, "4, 1, 1", "1.0, 2.0, 3.0, 4.0">}> : () -> !v
  %0 = "nn.conv"(%x, %w) <{strides = #nn.ints<[1, 1]>, pads = #nn.ints<[1, 1, 1, 1]>, dilations = #nn.ints<[1, 1]>, groups = #nn.int<1>, channels_last = #nn.flag<false>}> : (!x, !w) -> !y
  %1 = "nn.map"(%0, %scale) <{fn = #nn.str<"mul">}> : (!y, !v) -> !y
  "nn.return"(%0, %1) : (!y, !y) -> ()
}) : () -> ()
