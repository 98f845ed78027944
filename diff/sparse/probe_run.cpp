#include "diff/sparse/probe_run.h"

#include <algorithm>

#include "diff/sparse/replay.h"

namespace ps {

namespace {

Result<Tensor> tokens_f32(const SparseCase& base, const char* name, std::int64_t layer,
                          std::int64_t n) {
  PS_TRY(const Tensor t, base.tokens(name, layer, 0, n));
  Tensor out(DType::kF32, t.shape());
  for (std::int64_t i = 0; i < t.view().count(); ++i) {
    out.as<float>()[static_cast<std::size_t>(i)] = static_cast<float>(value_at(t.view(), i));
  }
  return out;
}

}  // namespace

Result<Run> run_of(const SparseCase& base) {
  Run out;
  for (std::int64_t l = 0; l < base.config.layers; ++l) {
    PS_TRY(Tensor q, tokens_f32(base, "q", l, base.config.length));
    PS_TRY(Tensor k, tokens_f32(base, "k", l, base.config.length));
    PS_TRY(Tensor v, tokens_f32(base, "v", l, base.config.length));
    out.q.push_back(std::move(q));
    out.k.push_back(std::move(k));
    out.v.push_back(std::move(v));
  }
  PS_TRY(out.mask, mask_argument(base));
  return out;
}

Tensor sliced(const Tensor& t, std::int64_t begin, std::int64_t end) {
  const Shape& s = t.shape();
  Tensor out(t.dtype(), {s[0], s[1], end - begin, s[3]});
  const std::int64_t from = s[2] * s[3], to = (end - begin) * s[3];
  const auto source = t.view().as<float>();
  for (std::int64_t r = 0; r < s[0] * s[1]; ++r) {
    std::copy_n(source.begin() + r * from + begin * s[3], to, out.as<float>().begin() + r * to);
  }
  return out;
}

Result<std::vector<SparseLayer>> play(SparseEngine& engine, const Run& run) {
  std::vector<SparseLayer> out;
  for (std::size_t l = 0; l < run.q.size(); ++l) {
    SparseInputs in{run.q[l].view(), run.k[l].view(), run.v[l].view(), std::nullopt};
    if (run.mask) in.mask = run.mask->view();
    PS_TRY(SparseLayer layer, engine.prefill(static_cast<std::int64_t>(l), in));
    out.push_back(std::move(layer));
  }
  return out;
}

Result<std::vector<SparseLayer>> fresh(const ProbeContext& c, const SparseConfig& config,
                                       const Run& run, const char* code, const char* what) {
  PS_TRY(const std::unique_ptr<SparseEngine> engine, c.make(config));
  Result<std::vector<SparseLayer>> out = play(*engine, run);
  if (out.ok() || out.error().kind == Error::Kind::kMachine) return out;
  const std::string message = std::string(what) + " is refused: " + out.error().line();
  if (code != nullptr) c.findings.add(code, "probe", {}, message);
  if (code == nullptr) c.findings.unnamed("engine", "probe", {}, message);
  return std::vector<SparseLayer>();
}

bool close(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return false;
  std::vector<double> x(static_cast<std::size_t>(a.view().count())), y(x.size());
  to_doubles(a.view(), x);
  to_doubles(b.view(), y);
  return distance(x.data(), y.data(), x.size()) <= 64 * unit_roundoff(a.dtype());
}

std::string point_of(std::size_t layer, const char* what) {
  return "probe/" + layer_name(static_cast<std::int64_t>(layer), what);
}

}  // namespace ps
