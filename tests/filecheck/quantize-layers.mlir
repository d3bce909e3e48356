// RUN: quantize-layers{format=int8-dynamic}

!x = !nn.tensor<"B, 8", f32, "B=1..8">
!w = !nn.tensor<"8, 256", f32>
!y = !nn.tensor<"B, 256", f32, "B=1..8">

// A row has the scale and the zero point of its own extremes.
// CHECK-LABEL: sym_name = "layer"
// CHECK: fn = #nn.str<"min">
// CHECK: fn = #nn.str<"max">
// CHECK: fn = #nn.str<"round">
// CHECK: "nn.dequantize"
// CHECK: "nn.dequantize"
// CHECK: "nn.matmul"
"nn.entry"() <{sym_name = "layer", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"8, 256">, dtype = #nn.str<"f32">}> : () -> !w
  %y = "nn.matmul"(%x, %w) : (!x, !w) -> !y
  "nn.return"(%y) : (!y) -> ()
}) : () -> ()
