// A report with everything in it, for tests of its forms.
#pragma once

#include "diff/report/report.h"

namespace ps {

inline PointRow sample_row(const std::string& point, PointStatus status, double ratio) {
  PointRow row;
  row.point = point;
  row.shape = {2, 5, 48};
  row.dtype = "bfloat16";
  row.status = status;
  row.ratio = ratio;
  row.max_abs = ratio * 0.004;
  row.rel_l2 = ratio * 0.001;
  row.max_ulp = static_cast<std::int64_t>(ratio * 3);
  row.compared = 480;
  return row;
}

// `layers` layers; the rotation of layer 2's queries is wrong, and everything after it.
inline Report sample_report(int layers = 6) {
  Report r;
  r.verdict = Verdict::kDiverged;
  const std::string rope = "model.layers.2.self_attn:q_rope";
  r.first_divergence = {0, 0, rope, "replica=1 batch=0 head=3 query=7"};
  bool wrong = false;
  const auto add = [&](const std::string& name, double ratio) {
    PointStatus status = wrong ? PointStatus::kPropagated : PointStatus::kOk;
    if (name == rope) status = PointStatus::kDiverged, ratio = 8123.4, wrong = true;
    const bool after = wrong && status == PointStatus::kPropagated;
    r.points.push_back(sample_row(name, status, after ? 40 * (1 + ratio) : ratio));
  };
  add("model.embed_tokens", 0);
  add("model:replicated", 0);
  add("model:mask", 0);
  int k = 0;
  for (int layer = 0; layer < layers; ++layer) {
    const std::string n = "model.layers." + std::to_string(layer);
    for (const char* op :
         {".input_layernorm", ".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj",
          ".self_attn:q_rope", ".self_attn:k_rope", ".self_attn:scores", ".self_attn:probs",
          ".self_attn:context", ".self_attn.o_proj", ":attn_residual", ".post_attention_layernorm",
          ".mlp.gate_proj", ".mlp.up_proj", ".mlp:act", ".mlp.down_proj", ""}) {
      add(n + op, 0.05 + 0.07 * (++k % 11));
    }
  }
  add("model.norm", 0.3);
  add("model:aggregated", 0.2);
  add("lm_head", 0.6);
  r.points[10].ignored = 24;
  r.points.push_back(sample_row("my.own_module", PointStatus::kUnmatched, 0));
  Finding f;
  f.id = "rope-interleaved-vs-half";
  f.fault_class = "rope";
  f.point = rope;
  f.where = "replica=1 batch=0 head=3 query=7";
  f.message = "The pairs (i, i+1) were rotated; this checkpoint rotates the halves (i, i + D/2).";
  f.evidence = {{"ratio_after_replay", "0.41"}, {"cells", "480"}, {"slope", "\"1.0101\""}};
  f.fix = "rotate x[..., :D/2] with x[..., D/2:], as rotate_half() of transformers does";
  f.confidence = Confidence::kExact;
  r.findings.push_back(f);
  f = {};
  f.id = "unnamed";
  f.fault_class = "softmax";
  f.severity = Severity::kWarning;
  f.point = "model.layers.4.self_attn:probs";
  f.step = 1;
  f.rank = 1;
  f.message = "Rows do not sum to 1: 0.98 to 1.02.";
  f.fix = "sum in float32";
  f.confidence = Confidence::kUnnamed;
  r.findings.push_back(f);
  f = {};
  f.id = "numerics-batch-variant-reduction";
  f.fault_class = "numerics";
  f.severity = Severity::kInfo;
  f.point = "lm_head";
  f.message = "Benign: sums in another order, within the bound.";
  f.confidence = Confidence::kConsistent;
  r.findings.push_back(f);
  r.blind_spots = {{"cache-beam-reorder-skipped", "no beam step was run"},
                   {"mask-padding-ignored", "no row is padded"}};
  r.power = 0.97;
  r.environment = {{"parscope", "\"0.1.0\""}, {"cpu_threads", "2"}};
  r.inputs = {{"tokens", "[[1,2,3,4,5]]"}, {"dtype", "\"bfloat16\""}};
  r.timing = {{"seconds", "1.25"}};
  return r;
}

// A report whose every text tries to be something else.
inline Report hostile_report() {
  Report r = sample_report();
  const std::string evil =
      "<script>alert('x')</script>\x1b[31m\n::error::x\r%0A]]>&amp;\"|`\xff\xc3(\xe2\x80\xae end";
  r.points[0].point = evil;
  r.points[1].dtype = evil;
  r.first_divergence->where = evil;
  for (Finding& f : r.findings) {
    f.message = f.fix = f.where = f.fault_class = evil;
    f.id += evil;
    f.evidence.emplace_back(evil, json_string(evil));
  }
  r.blind_spots[0] = {evil, evil};
  r.inputs.emplace_back(evil, json_string(evil));
  return r;
}

inline std::size_t occurrences(const std::string& text, const std::string& words) {
  std::size_t n = 0;
  for (std::size_t at = 0; (at = text.find(words, at)) != std::string::npos; ++at) ++n;
  return n;
}

}  // namespace ps
