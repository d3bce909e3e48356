// RUN: common-subexpressions

!t = !nn.tensor<"B, S", f32, "B=1..8 S=1..512">

// CHECK-LABEL: sym_name = "equal_maps"
// CHECK: [[Y:%[0-9a-z]+]] = "nn.map"
// CHECK-NEXT: "nn.return"([[Y]], [[Y]])
"nn.entry"() <{sym_name = "equal_maps", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y", "z"]>}> ({
^bb0(%x: !t):
  %0 = "nn.map"(%x) <{fn = #nn.str<"exp">}> : (!t) -> !t
  %1 = "nn.map"(%x) <{fn = #nn.str<"exp">}> : (!t) -> !t
  "nn.return"(%0, %1) : (!t, !t) -> ()
}) : () -> ()

// Another function of the same operand stays.
// CHECK-LABEL: sym_name = "keeps_other_functions"
// CHECK: fn = #nn.str<"exp">
// CHECK-NEXT: fn = #nn.str<"neg">
"nn.entry"() <{sym_name = "keeps_other_functions", inputs = #nn.strs<["x"]>, outputs = #nn.strs<["y", "z"]>}> ({
^bb0(%x: !t):
  %0 = "nn.map"(%x) <{fn = #nn.str<"exp">}> : (!t) -> !t
  %1 = "nn.map"(%x) <{fn = #nn.str<"neg">}> : (!t) -> !t
  "nn.return"(%0, %1) : (!t, !t) -> ()
}) : () -> ()
