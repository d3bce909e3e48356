// RUN: fold{limit=1}

!t = !nn.tensor<"B, 4", f32, "B=1..8">
!v = !nn.tensor<"4", f32>
!c = !nn.tensor<"", f32>
!wide = !nn.tensor<"1024, 1024", f32>
!row = !nn.tensor<"1, 1024", f32>
!column = !nn.tensor<"1024, 1", f32>

// CHECK-LABEL: sym_name = "chain"
// CHECK: #nn.array<f32, "4", "3.0, 5.0, 7.0, 9.0">
// CHECK-NEXT: fn = #nn.str<"mul">
"nn.entry"() <{sym_name = "chain", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !t):
  %v = "nn.constant"() <{value = #nn.array<f32, "4", "1.0, 2.0, 3.0, 4.0">}> : () -> !v
  %two = "nn.constant"() <{value = #nn.array<f32, "", "2.0">}> : () -> !c
  %one = "nn.constant"() <{value = #nn.array<f32, "", "1.0">}> : () -> !c
  %0 = "nn.map"(%v, %two) <{fn = #nn.str<"mul">}> : (!v, !c) -> !v
  %1 = "nn.map"(%0, %one) <{fn = #nn.str<"add">}> : (!v, !c) -> !v
  %2 = "nn.map"(%x, %1) <{fn = #nn.str<"mul">}> : (!t, !v) -> !t
  "nn.return"(%2) : (!t) -> ()
}) : () -> ()

// An outer product is a thousand times as large as its operands: it stays.
// CHECK-LABEL: sym_name = "keeps_what_grows"
// CHECK: nn.weight
// CHECK: nn.weight
// CHECK: fn = #nn.str<"mul">
"nn.entry"() <{sym_name = "keeps_what_grows", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !wide):
  %a = "nn.weight"() <{symbol = #nn.str<"a">, shape = #nn.exprs<"1, 1024">, dtype = #nn.str<"f32">}> : () -> !row
  %b = "nn.weight"() <{symbol = #nn.str<"b">, shape = #nn.exprs<"1024, 1">, dtype = #nn.str<"f32">}> : () -> !column
  %0 = "nn.map"(%a, %b) <{fn = #nn.str<"mul">}> : (!row, !column) -> !wide
  %1 = "nn.map"(%x, %0) <{fn = #nn.str<"add">}> : (!wide, !wide) -> !wide
  "nn.return"(%1) : (!wide) -> ()
}) : () -> ()
