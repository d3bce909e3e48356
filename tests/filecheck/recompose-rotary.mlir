// RUN: recompose-rotary

!x = !nn.tensor<"B, 4, S, 8", f32, "B=1..8 S=1..512">
!half = !nn.tensor<"B, 4, S, 4", f32, "B=1..8 S=1..512">
!a = !nn.tensor<"S, 4", f32, "S=1..512">
!t = !nn.tensor<"S, 8", f32, "S=1..512">

// CHECK-LABEL: sym_name = "rotary"
// CHECK: fn = #nn.str<"cos">
// CHECK-SAME: -> !nn.tensor<"S, 4"
// CHECK: fn = #nn.str<"sin">
// CHECK: nn.rotary
// CHECK-NEXT: nn.return
"nn.entry"() <{sym_name = "rotary", inputs = #nn.strs<["x", "a"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x, %a: !a):
  %0 = "nn.concat"(%a, %a) <{axis = #nn.int<1>}> : (!a, !a) -> !t
  %cos = "nn.map"(%0) <{fn = #nn.str<"cos">}> : (!t) -> !t
  %sin = "nn.map"(%0) <{fn = #nn.str<"sin">}> : (!t) -> !t
  %low = "nn.slice"(%x) <{starts = #nn.exprs<"0, 0, 0, 0">, sizes = #nn.exprs<"B, 4, S, 4", "B=1..8 S=1..512">, steps = #nn.ints<[1, 1, 1, 1]>}> : (!x) -> !half
  %high = "nn.slice"(%x) <{starts = #nn.exprs<"0, 0, 0, 4">, sizes = #nn.exprs<"B, 4, S, 4", "B=1..8 S=1..512">, steps = #nn.ints<[1, 1, 1, 1]>}> : (!x) -> !half
  %neg = "nn.map"(%high) <{fn = #nn.str<"neg">}> : (!half) -> !half
  %turned = "nn.concat"(%neg, %low) <{axis = #nn.int<3>}> : (!half, !half) -> !x
  %1 = "nn.map"(%x, %cos) <{fn = #nn.str<"mul">}> : (!x, !t) -> !x
  %2 = "nn.map"(%turned, %sin) <{fn = #nn.str<"mul">}> : (!x, !t) -> !x
  %3 = "nn.map"(%1, %2) <{fn = #nn.str<"add">}> : (!x, !x) -> !x
  "nn.return"(%3) : (!x) -> ()
}) : () -> ()

// The halves of the angles differ as far as anyone can tell.
// CHECK-LABEL: sym_name = "keeps_two_tables"
// CHECK-NOT: nn.rotary
// CHECK: nn.return
"nn.entry"() <{sym_name = "keeps_two_tables", inputs = #nn.strs<["x", "a", "b"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%x: !x, %a: !a, %b: !a):
  %0 = "nn.concat"(%a, %b) <{axis = #nn.int<1>}> : (!a, !a) -> !t
  %cos = "nn.map"(%0) <{fn = #nn.str<"cos">}> : (!t) -> !t
  %sin = "nn.map"(%0) <{fn = #nn.str<"sin">}> : (!t) -> !t
  %low = "nn.slice"(%x) <{starts = #nn.exprs<"0, 0, 0, 0">, sizes = #nn.exprs<"B, 4, S, 4", "B=1..8 S=1..512">, steps = #nn.ints<[1, 1, 1, 1]>}> : (!x) -> !half
  %high = "nn.slice"(%x) <{starts = #nn.exprs<"0, 0, 0, 4">, sizes = #nn.exprs<"B, 4, S, 4", "B=1..8 S=1..512">, steps = #nn.ints<[1, 1, 1, 1]>}> : (!x) -> !half
  %neg = "nn.map"(%high) <{fn = #nn.str<"neg">}> : (!half) -> !half
  %turned = "nn.concat"(%neg, %low) <{axis = #nn.int<3>}> : (!half, !half) -> !x
  %1 = "nn.map"(%x, %cos) <{fn = #nn.str<"mul">}> : (!x, !t) -> !x
  %2 = "nn.map"(%turned, %sin) <{fn = #nn.str<"mul">}> : (!x, !t) -> !x
  %3 = "nn.map"(%1, %2) <{fn = #nn.str<"add">}> : (!x, !x) -> !x
  "nn.return"(%3) : (!x) -> ()
}) : () -> ()
