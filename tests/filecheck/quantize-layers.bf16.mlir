// RUN: quantize-layers{format=bf16},fuse

!x = !nn.tensor<"B, 8", f32, "B=1..8">
!w = !nn.tensor<"8, 256", f32>
!h = !nn.tensor<"B, 256", f32, "B=1..8">
!v = !nn.tensor<"256, 16", f32>
!y = !nn.tensor<"B, 16", f32, "B=1..8">

// Factors are rounded to bf16 and sums stay f32; whoever makes the next input rounds it.
// CHECK-LABEL: sym_name = "k1_
// CHECK: "nn.matmul"{{.*}}to = #nn.dtype<f32>{{.*}} : (!nn.tensor<"B, 8", bf16{{.*}}, !nn.tensor<"8, 256", bf16>) -> !nn.tensor<"B, 256", f32
// CHECK: fn = #nn.str<"relu">
// CHECK: "nn.convert"{{.*}}to = #nn.dtype<bf16>
// CHECK-NEXT: "nn.return"
// CHECK-LABEL: sym_name = "k2_
// CHECK: "nn.matmul"{{.*}}to = #nn.dtype<f32>
// CHECK-NEXT: "nn.return"
"nn.entry"() <{sym_name = "layer", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x):
  %w = "nn.weight"() <{symbol = #nn.str<"w">, shape = #nn.exprs<"8, 256">, dtype = #nn.str<"f32">}> : () -> !w
  %v = "nn.weight"() <{symbol = #nn.str<"v">, shape = #nn.exprs<"256, 16">, dtype = #nn.str<"f32">}> : () -> !v
  %a = "nn.matmul"(%x, %w) : (!x, !w) -> !h
  %h = "nn.map"(%a) <{fn = #nn.str<"relu">}> : (!h) -> !h
  %y = "nn.matmul"(%h, %v) : (!h, !v) -> !y
  "nn.return"(%y) : (!y) -> ()
}) : () -> ()
