// RUN: page-caches

!i = !nn.tensor<"1, T", i64, "T=1..2048">
!x = !nn.tensor<"1, T, 8", f32, "T=1..2048">
!h = !nn.tensor<"1, 1, T, 8", f32, "T=1..2048">
!p = !nn.tensor<"1, 1, S, 8", f32, "S=0..4096">
!a = !nn.tensor<"1, 1, S + T, 8", f32, "S=0..4096 T=1..2048">

// Keys are written to pages before attention reads them; logits are those of the rows asked for.
// CHECK-LABEL: sym_name = "main"
// CHECK-SAME: inputs = #nn.strs<["ids", "positions", "rows", "slots", "sequence", "end", "tree", "table", "keys.0", "values.0"]>
// CHECK-SAME: outputs = #nn.strs<["logits", "keys.0", "values.0"]>
// CHECK-SAME: states = #nn.strs<["keys.0", "values.0"]>
// CHECK-NOT: nn.concat
// CHECK: [[K:%[0-9]+]] = "nn.write_slots"({{.*}}turned = #nn.flag<true>
// CHECK: [[V:%[0-9]+]] = "nn.write_slots"({{.*}}turned = #nn.flag<false>
// CHECK: "nn.paged_attention"({{%[0-9]+}}, [[K]], [[V]],
// CHECK: "nn.gather"
// CHECK: "nn.return"({{%[0-9]+}}, [[K]], [[V]])
"nn.entry"() <{sym_name = "main", inputs = #nn.strs<["input_ids", "past.k", "past.v"]>, outputs = #nn.strs<["logits", "k", "v"]>}> ({
^bb0(%ids: !i, %k: !p, %v: !p):
  %table = "nn.constant"() <{value = #nn.array<f32, "2, 8", "1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0">}> : () -> !nn.tensor<"2, 8", f32>
  %0 = "nn.gather"(%table, %ids) <{axis = #nn.int<0>}> : (!nn.tensor<"2, 8", f32>, !i) -> !x
  %1 = "nn.reshape"(%0) <{shape = #nn.exprs<"1, 1, T, 8", "T=1..2048">}> : (!x) -> !h
  %2 = "nn.concat"(%k, %1) <{axis = #nn.int<2>}> : (!p, !h) -> !a
  %3 = "nn.concat"(%v, %1) <{axis = #nn.int<2>}> : (!p, !h) -> !a
  %4 = "nn.attention"(%1, %2, %3) <{scale = #nn.float<0.5>, causal = #nn.flag<true>, causal_offset = #nn.exprs<"S", "S=0..4096">, softcap = #nn.float<0.0>}> : (!h, !a, !a) -> !h
  %5 = "nn.reshape"(%4) <{shape = #nn.exprs<"1, T, 8", "T=1..2048">}> : (!h) -> !x
  "nn.return"(%5, %2, %3) : (!x, !a, !a) -> ()
}) : () -> ()
