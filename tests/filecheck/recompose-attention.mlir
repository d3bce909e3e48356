// RUN: recompose-attention

!q = !nn.tensor<"B, 4, S, 16", f32, "B=1..8 S=1..512">
!k = !nn.tensor<"B, 4, T, 16", f32, "B=1..8 T=1..512">
!s = !nn.tensor<"B, 4, S, T", f32, "B=1..8 S=1..512 T=1..512">
!b = !nn.tensor<"B, 4, S, T", bool, "B=1..8 S=1..512 T=1..512">
!m = !nn.tensor<"B, 1, 1, T", f32, "B=1..8 T=1..512">
!c = !nn.tensor<"", f32>

// The scale is split over queries and keys, and NaN is guarded, as torch's exporter does.
// CHECK-LABEL: sym_name = "split_scale_and_guard"
// CHECK-NEXT: ^bb0([[Q:%[0-9a-z]+]]: {{.*}}, [[K:%[0-9a-z]+]]: {{.*}}, [[V:%[0-9a-z]+]]: {{.*}}, [[M:%[0-9a-z]+]]:
// CHECK-NEXT: "nn.attention"([[Q]], [[K]], [[V]], [[M]]) <{scale = #nn.float<0.25>
// CHECK-NEXT: nn.return
"nn.entry"() <{sym_name = "split_scale_and_guard", inputs = #nn.strs<["q", "k", "v", "m"]>, outputs = #nn.strs<["y"]>}> ({
^bb0(%q: !q, %k: !k, %v: !k, %m: !m):
  %root = "nn.constant"() <{value = #nn.array<f32, "", "0.5">}> : () -> !c
  %zero = "nn.constant"() <{value = #nn.array<f32, "", "0.0">}> : () -> !c
  %0 = "nn.map"(%q, %root) <{fn = #nn.str<"mul">}> : (!q, !c) -> !q
  %1 = "nn.map"(%k, %root) <{fn = #nn.str<"mul">}> : (!k, !c) -> !k
  %2 = "nn.matmul"(%0, %1) <{transpose_b = #nn.flag<true>}> : (!q, !k) -> !s
  %3 = "nn.map"(%2, %m) <{fn = #nn.str<"add">}> : (!s, !m) -> !s
  %4 = "nn.softmax"(%3) <{axis = #nn.int<-1>}> : (!s) -> !s
  %5 = "nn.map"(%4) <{fn = #nn.str<"is_nan">}> : (!s) -> !b
  %6 = "nn.map"(%5, %zero, %4) <{fn = #nn.str<"where">}> : (!b, !c, !s) -> !s
  %7 = "nn.matmul"(%6, %v) <{transpose_b = #nn.flag<false>}> : (!s, !k) -> !q
  "nn.return"(%7) : (!q) -> ()
}) : () -> ()

// The probabilities are an output too: fusing would compute them twice.
// CHECK-LABEL: sym_name = "keeps_shared_probabilities"
// CHECK-NOT: nn.attention
// CHECK: nn.softmax
// CHECK-NOT: nn.attention
// CHECK: nn.return
"nn.entry"() <{sym_name = "keeps_shared_probabilities", inputs = #nn.strs<["q", "k", "v"]>, outputs = #nn.strs<["y", "p"]>}> ({
^bb0(%q: !q, %k: !k, %v: !k):
  %0 = "nn.matmul"(%q, %k) <{transpose_b = #nn.flag<true>}> : (!q, !k) -> !s
  %1 = "nn.softmax"(%0) <{axis = #nn.int<-1>}> : (!s) -> !s
  %2 = "nn.matmul"(%1, %v) <{transpose_b = #nn.flag<false>}> : (!s, !k) -> !q
  "nn.return"(%2, %1) : (!q, !s) -> ()
}) : () -> ()
