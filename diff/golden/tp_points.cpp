// A case's values: ranks run by the reference on the case's own RoPE tables, joined, and held to
// what is stored.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "diff/compare/closeness.h"
#include "diff/golden/tp_case.h"
#include "diff/shard/join.h"

namespace ps {

namespace {

class Keep final : public Tap {
 public:
  bool wants(std::string_view) override { return true; }
  void take(std::string_view point, const TensorView& value) override {
    points.insert_or_assign(std::string(point), Tensor::copy_of(value));
  }
  std::map<std::string, Tensor> points;
};

std::string brief(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", x);
  return text;
}

// Stored values against computed ones.
struct Bound {
  double l2 = 0;    // of the tensor's norm
  double cell = 0;  // of max(|expected|, rms)
};
Result<void> hold(const std::string& where, const TensorView& stored, const TensorView& computed,
                  const Bound& bound, double& worst) {
  if (stored.shape != computed.shape) {
    return bad_input(where, "has another shape", to_string(computed.shape),
                     to_string(stored.shape));
  }
  double error = 0, norm = 0;
  for (std::int64_t i = 0; i < stored.count(); ++i) {
    const double x = value_at(computed, i), d = value_at(stored, i) - x;
    if (!std::isfinite(d)) return bad_input(where, cell_text(stored, computed, i));
    error += d * d;
    norm += x * x;
  }
  const double rms =
      std::sqrt(norm / static_cast<double>(std::max<std::int64_t>(stored.count(), 1)));
  const double rel = norm > 0 ? std::sqrt(error / norm) : error > 0 ? HUGE_VAL : 0;
  for (std::int64_t i = 0; i < stored.count(); ++i) {
    const double x = value_at(computed, i), d = std::fabs(value_at(stored, i) - x);
    if (d <= bound.cell * std::max(std::fabs(x), rms)) continue;
    return bad_input(where, cell_text(stored, computed, i));
  }
  if (rel > bound.l2) {
    return bad_input(where,
                     "is off by " + brief(rel) + " in the L2 norm, allowed " + brief(bound.l2));
  }
  worst = std::max(worst, rel);
  return {};
}

// The tables follow from theta and the positions in float32. Other machines' sin and cos may differ
// in the last place, so they are held to two of those.
Result<void> check_rope(const TpCase& c) {
  const std::int64_t dim = c.config.head_dim, half = dim / 2;
  const TensorView* inv = c.acts->find("rope/inv_freq");
  const TensorView* cos = c.acts->find("rope/model.rotary_emb:cos");
  const TensorView* sin = c.acts->find("rope/model.rotary_emb:sin");
  const Shape shape = {c.batch, c.tokens, dim};
  if (inv == nullptr || cos == nullptr || sin == nullptr || inv->shape != Shape{half} ||
      cos->shape != shape || sin->shape != shape || inv->dtype != DType::kF32 ||
      cos->dtype != DType::kF32 || sin->dtype != DType::kF32) {
    return bad_input("acts.safetensors/rope", "needs inv_freq, cos, sin in float32",
                     to_string(shape));
  }
  for (std::int64_t j = 0; j < half; ++j) {
    const double exact =
        std::pow(c.config.rope.theta, -2.0 * static_cast<double>(j) / static_cast<double>(dim));
    const double stored = value_at(*inv, j);
    if (std::fabs(stored - exact) <= 4 * 0x1p-24 * exact) continue;
    return bad_input("acts.safetensors/rope/inv_freq[" + std::to_string(j) + "]",
                     "is not theta^(-2j/D)", brief(exact), brief(stored));
  }
  for (std::int64_t i = 0; i < cos->count(); ++i) {
    const auto row = static_cast<std::size_t>(i / dim);
    const float frequency = inv->as<float>()[static_cast<std::size_t>(i % dim % half)];
    const double angle = static_cast<float>(c.position_ids[row]) * frequency;
    for (const auto& [view, right, name] :
         {std::tuple{cos, std::cos(angle), "cos"}, std::tuple{sin, std::sin(angle), "sin"}}) {
      if (std::fabs(value_at(*view, i) - right) <= 0x1p-23) continue;
      return bad_input("acts.safetensors/rope/model.rotary_emb:" + std::string(name) +
                           index_text(view->shape, i),
                       "is not that of position * inv_freq", brief(right),
                       brief(value_at(*view, i)));
    }
  }
  return {};
}

// hf/ is another program's float32 run: it agrees with the stored one on real tokens, and where it
// must decide rows without a key it takes the mean of all, as EmptyRows::kUniform does.
Result<void> check_hf(const TpCase& c, const TpRun& uniform, std::set<std::string>& seen) {
  for (std::size_t s = 0; s < c.steps.size(); ++s) {
    const std::string step = "step" + std::to_string(s) + "/lm_head";
    const TensorView* hf = c.acts->find("hf/" + step);
    const TensorView* f32 = c.acts->find("f32/" + step);
    if (hf == nullptr || f32 == nullptr) continue;
    seen.insert("hf/" + step);
    const Tensor& ours = uniform.steps[s].at("lm_head");
    if (hf->shape != f32->shape || hf->shape != ours.shape()) {
      return bad_input("hf/" + step, "has another shape", to_string(f32->shape),
                       to_string(hf->shape));
    }
    const std::int64_t vocab = hf->shape[2], tokens = hf->shape[1];
    for (std::int64_t i = 0; i < hf->count(); ++i) {
      const std::int64_t row = i / vocab;
      const double ours_off = std::fabs(value_at(*hf, i) - value_at(ours.view(), i));
      const double off = std::fabs(value_at(*hf, i) - value_at(*f32, i));
      const bool real = c.is_valid(s, row / tokens, row % tokens);
      if ((!real || off <= 1e-5) && ours_off <= 1e-4) continue;
      return bad_input("hf/" + step, cell_text(*hf, real ? *f32 : ours.view(), i));
    }
  }
  return {};
}

// "f64/step2/NAME": the step and the name; no value for other entries.
struct StoredPoint {
  std::size_t step = 0;
  std::string name;
};
std::optional<StoredPoint> stored_point(std::string_view entry, std::string_view family) {
  if (!entry.starts_with(family)) return std::nullopt;
  entry.remove_prefix(family.size());
  if (!entry.starts_with("/step")) return std::nullopt;
  const std::size_t slash = entry.find('/', 5);
  if (slash == std::string_view::npos || slash == 5 || slash > 9) return std::nullopt;
  const std::string digits(entry.substr(5, slash - 5));
  if (digits.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  return StoredPoint{static_cast<std::size_t>(std::stoul(digits)),
                     std::string(entry.substr(slash + 1))};
}

struct Counted {
  std::int64_t points = 0;
  double worst = 0;
};

// Every stored value of a family, against a run. Partial sums are named rankR/NAME:partial.
Result<void> check_family(const TpCase& c, const TpRun& run, const std::string& family,
                          const Bound& bound, const Bound& logits, std::set<std::string>& seen,
                          Counted& counted) {
  for (const auto& entry : c.acts->entries()) {
    const auto point = stored_point(entry.name, family);
    if (!point) continue;
    if (point->step >= run.steps.size()) return bad_input(entry.name, "no such step was run");
    auto found = run.steps[point->step].find(point->name);
    if (found == run.steps[point->step].end()) {
      return bad_input(entry.name, "is nothing that this model computes");
    }
    const Bound& own = point->name == "lm_head" ? logits : bound;
    PS_TRY_VOID(hold(entry.name, entry.view, found->second.view(), own, counted.worst));
    seen.insert(entry.name);
    ++counted.points;
  }
  return {};
}

Result<void> check_cache(const TpCase& c, const TpRun& run, const Bound& bound,
                         std::set<std::string>& seen, Counted& counted) {
  for (const auto& entry : c.acts->entries()) {
    if (!entry.name.starts_with("cache/")) continue;
    const auto found = run.steps.back().find(entry.name.substr(6));
    if (found == run.steps.back().end()) return bad_input(entry.name, "is no cache");
    PS_TRY_VOID(hold(entry.name, entry.view, found->second.view(), bound, counted.worst));
    seen.insert(entry.name);
    ++counted.points;
  }
  return {};
}

// What the case says it measured must at least keep its own tolerance.
Result<void> check_measured(const TpCase& c) {
  const Json* measured = c.json.find("measured");
  const Json* hf =
      measured != nullptr ? measured->find("hf_vs_f32_max_abs_on_valid_rows") : nullptr;
  if (hf != nullptr && !(hf->number >= 0 && hf->number <= 1e-5)) {
    return bad_input("case.json/measured/hf_vs_f32_max_abs_on_valid_rows", "is no rounding error");
  }
  const Json* per_tp = measured != nullptr ? measured->find("per_tp") : nullptr;
  if (per_tp == nullptr) return {};
  const double most = 32 * 0x1p-24 * std::sqrt(static_cast<double>(c.config.layers + 1));
  for (std::size_t i = 0; i < per_tp->items.size(); ++i) {
    const Json& entry = per_tp->items[i];
    const std::string where = "case.json/measured/per_tp/" + per_tp->names[i];
    const Json* f64 = entry.find("fp64_rel");
    if (f64 == nullptr || !(f64->number >= 0) || f64->number > c.f64_rel) {
      return bad_input(where + "/fp64_rel", "is no error that the case allows");
    }
    const Json* f32 = entry.find("fp32_rel_vs_fp64");
    for (std::size_t k = 0; f32 != nullptr && k < f32->items.size(); ++k) {
      const double x = f32->items[k].number;
      if (x >= 0 && x <= most) continue;
      return bad_input(where + "/fp32_rel_vs_fp64/" + f32->names[k], "is no rounding error");
    }
  }
  return {};
}

}  // namespace

Result<TpRun> run_tp(const TpCase& c, const RankModel& model, DType dtype, EmptyRows empty_rows) {
  ReferenceOptions options;
  options.dtype = dtype;
  options.empty_rows = empty_rows;
  options.pinned_rope = c.rope();
  PS_TRY(const std::unique_ptr<Ranks> ranks, open_simulated_ranks(model, options));
  const RankShare share = rank_share(c.config, model.tp);
  TpRun out;
  for (std::size_t s = 0; s < c.steps.size(); ++s) {
    std::vector<Keep> kept(static_cast<std::size_t>(model.tp));
    std::vector<Tap*> taps;
    for (Keep& tap : kept) taps.push_back(&tap);
    PS_TRY_VOID(ranks->forward(c.step(s), taps));
    auto& points = out.steps.emplace_back();
    for (const auto& [name, value] : kept[0].points) {
      if (name.ends_with(":partial")) {
        for (std::size_t r = 0; r < kept.size(); ++r) {
          points["rank" + std::to_string(r) + "/" + name] = kept[r].points.at(name);
        }
        continue;
      }
      std::vector<TensorView> parts;
      for (const Keep& rank : kept) parts.push_back(rank.points.at(name).view());
      PS_TRY(JoinedPoint joined, join_point(name, parts, c.config, share));
      points[name] = std::move(joined.value);
      // Copies of a key/value head disagree only where the shards do; the first one stands for all.
    }
  }
  return out;
}

double relative_error(const TpCase& c, const TensorView& a, const TensorView& b, bool real_tokens) {
  const std::int64_t width = b.shape.back();
  double error = 0, norm = 0;
  for (std::int64_t i = 0; i < b.count(); ++i) {
    const std::int64_t row = i / width;
    if (real_tokens && !c.is_valid(0, row / b.shape[1], row % b.shape[1])) continue;
    const double x = value_at(b, i), d = value_at(a, i) - x;
    error += d * d;
    norm += x * x;
  }
  return norm > 0 ? std::sqrt(error / norm) : error > 0 ? HUGE_VAL : 0;
}

Result<std::string> check_tp_points(const TpCase& c) {
  PS_TRY_VOID(check_rope(c));
  PS_TRY_VOID(check_measured(c));
  std::set<std::string> seen = {"rope/inv_freq", "rope/model.rotary_emb:cos",
                                "rope/model.rotary_emb:sin"};
  const SourceLookup sources = c.sources();
  const Bound exact{c.f64_rel, c.f64_rel};
  const double u32 = 32 * 0x1p-24 * std::sqrt(static_cast<double>(c.config.layers + 1));
  const Bound rounded{u32, 8 * u32}, logits{c.f32_rel_logits, 8 * u32};
  Counted f64, f32;
  for (const std::int64_t tp : c.tps) {
    PS_TRY(const RankModel model, rank_model(c.config, tp, sources, {}));
    PS_TRY(const TpRun run, run_tp(c, model, DType::kF64, c.empty_rows));
    PS_TRY_VOID(check_family(c, run, "f64", exact, exact, seen, f64));
    PS_TRY_VOID(check_cache(c, run, exact, seen, f64));
    if (tp == 1 || tp == c.tp_full) {
      // Against float64: what float32 may lose is bounded there, whoever computed it.
      PS_TRY_VOID(check_family(c, run, "f32", rounded, logits, seen, f32));
      const std::string partials = "tp" + std::to_string(tp);
      PS_TRY_VOID(check_family(c, run, partials, rounded, rounded, seen, f32));
      PS_TRY(const TpRun same, run_tp(c, model, DType::kF32, c.empty_rows));
      PS_TRY_VOID(check_family(c, same, "f32", rounded, logits, seen, f32));
    }
  }
  PS_TRY(const RankModel whole, rank_model(c.config, 1, sources, {}));
  PS_TRY(const TpRun uniform, run_tp(c, whole, DType::kF64, EmptyRows::kUniform));
  PS_TRY_VOID(check_hf(c, uniform, seen));
  for (const auto& entry : c.acts->entries()) {
    if (!seen.contains(entry.name)) {
      return bad_input("acts.safetensors/" + entry.name, "is nothing that a case holds");
    }
  }
  return std::to_string(f64.points) + " float64 points over all tps, worst " + brief(f64.worst) +
         "; " + std::to_string(f32.points) + " float32, worst " + brief(f32.worst);
}

}  // namespace ps
