#include "diff/sparse/probe.h"

#include <algorithm>

#include "diff/sparse/probe_questions.h"

namespace ps {

Result<std::optional<Tensor>> mask_argument(const SparseCase& base) {
  const SparseConfig& c = base.config;
  if (const TensorView* given = base.find("token_mask"); given != nullptr) {
    return std::optional<Tensor>(Tensor::copy_of(*given));
  }
  const TensorView* bits = base.find("token_mask_in_bits");
  if (bits == nullptr) return std::optional<Tensor>();
  PS_TRY(const PairMask m,
         pair_mask_of_bits(*bits, c.batch, c.heads, c.length, "token_mask_in_bits"));
  PS_TRY(const PairMask plain, pair_mask(c, std::nullopt, c.length, c.length, ""));
  bool same_heads = true, same_as_plain = true;
  const std::int64_t plane = c.length * c.length;
  for (std::int64_t b = 0; b < c.batch; ++b) {
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const auto* cells = m.cells.data() + m.row(b, h, 0);
      same_heads = same_heads && std::equal(cells, cells + plane, m.cells.data() + m.row(b, 0, 0));
      same_as_plain = same_as_plain &&
                      std::equal(cells, cells + plane, plain.cells.data() + plain.row(b, 0, 0));
    }
  }
  if (same_as_plain) return std::optional<Tensor>();
  Tensor out(DType::kBool, same_heads ? Shape{c.batch, c.length, c.length}
                                      : Shape{c.batch, c.heads, c.length, c.length});
  auto cells = out.as<std::uint8_t>();
  for (std::int64_t b = 0; b < c.batch; ++b) {
    const std::int64_t planes = same_heads ? 1 : c.heads;
    std::copy_n(m.cells.data() + m.row(b, 0, 0), planes * plane,
                cells.begin() + b * planes * plane);
  }
  return std::optional<Tensor>(std::move(out));
}

Result<SparseCase> run_sparse_case(const SparseCase& base, SparseEngine& engine) {
  SparseCase out;
  out.where = base.where;
  out.config = base.config;
  out.weights = base.weights;
  out.json.kind = Json::Kind::kObject;
  if (const Json* config = base.json.find("config"); config != nullptr) {
    out.json.names = {"config"};
    out.json.items = {*config};
  }
  for (const char* name : {"q", "k", "v", "token_mask", "token_mask_in_bits"}) {
    if (const TensorView* t = base.find(name); t != nullptr) out.set(name, Tensor::copy_of(*t));
  }
  const SparseConfig& c = base.config;
  PS_TRY(const std::optional<Tensor> mask, mask_argument(base));
  for (std::int64_t l = 0; l < c.layers; ++l) {
    PS_TRY(const Tensor q, base.tokens("q", l, 0, c.length));
    PS_TRY(const Tensor k, base.tokens("k", l, 0, c.length));
    PS_TRY(const Tensor v, base.tokens("v", l, 0, c.length));
    SparseInputs in{q.view(), k.view(), v.view(), std::nullopt};
    if (mask) in.mask = mask->view();
    PS_TRY(SparseLayer layer, engine.prefill(l, in));
    out.selected.push_back(layer.lists);
    const auto keep = [&](const char* name, Tensor& t) {
      if (!t.shape().empty()) out.set(layer_name(l, name), std::move(t));
    };
    keep("scores", layer.scores);
    keep("transition", layer.transition);
    keep("walk", layer.walk);
    keep("block_allowed", layer.block_allowed);
    keep("out", layer.out);
  }
  for (std::size_t s = 0; s < base.decode.size(); ++s) {
    SparseDecodeStep step{base.decode[s].position, base.decode[s].block, {}};
    const std::int64_t at = step.position;
    for (std::int64_t l = 0; l < c.layers; ++l) {
      PS_TRY(const Tensor q, base.tokens("q", l, at, at + 1));
      PS_TRY(const Tensor k, base.tokens("k", l, at, at + 1));
      PS_TRY(const Tensor v, base.tokens("v", l, at, at + 1));
      PS_TRY(SparseLayer layer, engine.decode(l, {q.view(), k.view(), v.view(), std::nullopt}));
      step.selected.push_back(layer.lists);
      const std::string prefix = "decode" + std::to_string(s) + "/";
      if (!layer.walk.shape().empty()) {
        out.set(prefix + layer_name(l, "walk_row"), std::move(layer.walk));
      }
      out.set(prefix + layer_name(l, "out"), std::move(layer.out));
    }
    out.decode.push_back(std::move(step));
  }
  return out;
}

Result<Report> probe_sparse_engine(const SparseCase& base, const MakeSparseEngine& make,
                                   SparseReference& reference, const SparseCheckOptions& options) {
  Report report;
  SparseFindings findings;
  PS_TRY(const std::unique_ptr<SparseEngine> engine, make(base.config));
  const Result<SparseCase> ran = run_sparse_case(base, *engine);
  if (ran.ok()) {
    PS_TRY(report, check_sparse_case(ran.value(), reference, options));
  } else if (ran.error().kind == Error::Kind::kMachine) {
    return ran.error();
  } else {
    findings.unnamed("engine", "prefill", {}, "refuses the case: " + ran.error().line());
  }
  const ProbeContext context{base, make, reference, findings};
  for (const ProbeQuestion question : kProbeQuestions) PS_TRY_VOID(question(context));
  for (const Finding& f : findings.all()) {
    report.findings.push_back(f);
    if (f.severity == Severity::kError) report.verdict = Verdict::kDiverged;
  }
  std::stable_sort(report.findings.begin(), report.findings.end(),
                   [](const Finding& a, const Finding& b) { return a.severity < b.severity; });
  if (!report.first_divergence && report.verdict == Verdict::kDiverged) {
    const Finding& f = report.findings.front();
    report.first_divergence = FirstDivergence{f.step, 0, f.point, f.where};
  }
  return report;
}

}  // namespace ps
