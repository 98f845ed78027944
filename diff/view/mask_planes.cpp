#include "diff/view/mask_planes.h"

#include <algorithm>
#include <cmath>

#include "core/points.h"
#include "diff/mask/forms.h"
#include "diff/mask/probe.h"
#include "diff/mask/why.h"

namespace ps::view {

namespace {

using mask::Bands;
using mask::Mask;
using mask::SetOp;

// Where a probability is not zero. NaN counts as attended: the cell was computed.
Mask mask_of_probs(const TensorView& probs) {
  const mask::Dims dims{probs.shape[0], probs.shape[1], probs.shape[2], probs.shape[3]};
  return mask::mask_from_cells(dims, [&](std::int64_t i) { return !(value_at(probs, i) <= 0); });
}

}  // namespace

PlanePair pair_of(const Mask* expected, const Mask* actual, std::int64_t b, std::int64_t h) {
  PlanePair out;
  const auto plane = [&](const Mask* m) -> std::shared_ptr<const Bands> {
    if (m == nullptr) return nullptr;
    out.rows = m->dims().Q;
    out.columns = m->dims().KV;
    // Masks of one row for all, one head for all.
    return m->shared(std::min(b, m->dims().B - 1), std::min(h, m->dims().H - 1));
  };
  out.expected = plane(expected);
  out.actual = plane(actual);
  const bool both = out.expected != nullptr && out.actual != nullptr &&
                    expected->dims().Q == actual->dims().Q &&
                    expected->dims().KV == actual->dims().KV;
  if (!both) return out;
  out.leak = mask::combine(*out.actual, *out.expected, SetOp::kMinus);
  out.hidden = mask::combine(*out.expected, *out.actual, SetOp::kMinus);
  out.errors = mask::combine(out.leak, out.hidden, SetOp::kOr);
  out.leaks = out.leak.count();
  out.hides = out.hidden.count();
  return out;
}

MaskSet MaskSet::of_step(const TraceStep& step, const ModelConfig* config, std::int64_t past,
                         std::int64_t layer) {
  MaskSet set;
  set.keeps_ = step.tensors;
  std::optional<mask::Dims> dims;
  const auto note = [&](const std::string& name, const TensorView& view) {
    if (view.shape.size() != 4 || view.count() == 0) return;
    set.sources_.emplace(name, view);
    const bool rows_for_all = name.starts_with("mask");
    if (!dims || !rows_for_all) {
      dims = mask::Dims{view.shape[0], view.shape[1], view.shape[2], view.shape[3]};
    }
  };
  for (const auto& entry : step.tensors->entries()) {
    if (entry.name == "model:mask") note("mask", entry.view);
    if (entry.name == "model:mask_sliding") note("mask_sliding", entry.view);
    const auto ref = find_point(canonical_point(entry.name));
    if (ref && ref->spec->name == "model.layers.N.self_attn:probs") {
      note("layer" + std::to_string(ref->layer), entry.view);
    }
  }
  if (config == nullptr) return set;
  const auto inputs = step_inputs(step, past);
  if (!inputs.ok()) return set;
  if (!dims) {
    dims = mask::Dims{config->replicas * inputs->batch, 1, inputs->length,
                      config->prefix_tokens + past + inputs->length};
  }
  // A layer whose keys are those of all replicas has another mask.
  const auto at_layer =
      static_cast<std::size_t>(std::clamp<std::int64_t>(layer, 0, config->layers - 1));
  const bool cross = config->cross_kv_layer[at_layer];
  if (cross || dims->KV != config->prefix_tokens + past + inputs->length ||
      dims->Q != inputs->length || inputs->visible) {
    return set;
  }
  StepInputs keys = *inputs;
  keys.length = past + inputs->length;
  mask::ProbedMask at;
  at.layer = static_cast<std::int64_t>(at_layer);
  at.past = past;
  at.mask = Mask(*dims);
  set.program_ = mask::expected_program(*config, keys, at);
  return set;
}

Result<MaskSet> MaskSet::of_program(mask::Program program, std::optional<Mask> actual) {
  MaskSet set;
  set.program_ = std::move(program);
  if (actual) set.add("actual", std::move(*actual));
  PS_TRY(const auto expected, set.get("expected"));
  if (const auto it = set.made_.find("actual"); it != set.made_.end()) {
    if (it->second->dims().Q != expected->dims().Q || it->second->dims().KV != expected->dims().KV)
      return bad_input("actual", "the masks are of different sizes", to_string(expected->dims()),
                       to_string(it->second->dims()));
  }
  return set;
}

std::vector<std::string> MaskSet::names() const {
  std::vector<std::string> out;
  if (program_) out.emplace_back("expected");
  for (const auto& [name, mask] : made_) {
    if (name != "expected" && !sources_.contains(name)) out.push_back(name);
  }
  std::vector<std::string> captured;
  for (const auto& [name, view] : sources_) captured.push_back(name);
  std::sort(captured.begin(), captured.end(), [](const auto& a, const auto& b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;  // layer9 before layer10
  });
  out.insert(out.end(), captured.begin(), captured.end());
  return out;
}

std::optional<mask::Dims> MaskSet::dims() const {
  if (program_) return program_->dims;
  if (!made_.empty()) return made_.begin()->second->dims();
  if (sources_.empty()) return std::nullopt;
  const Shape& s = sources_.begin()->second.shape;
  return mask::Dims{s[0], s[1], s[2], s[3]};
}

void MaskSet::add(std::string name, Mask mask) {
  made_[std::move(name)] = std::make_shared<const Mask>(std::move(mask));
}

std::string MaskSet::actual_name(std::int64_t layer) const {
  if (made_.contains("actual")) return "actual";
  const std::string own = "layer" + std::to_string(layer);
  if (sources_.contains(own)) return own;
  return sources_.contains("mask") ? "mask" : sources_.empty() ? "" : sources_.begin()->first;
}

Result<Mask> MaskSet::make(const std::string& name) const {
  if (name == "expected" && program_) return mask::evaluate(*program_);
  const auto it = sources_.find(name);
  if (it == sources_.end()) {
    std::string known;
    for (const std::string& n : names()) known += (known.empty() ? "" : ", ") + n;
    return bad_input(name, "no such mask here", known.empty() ? "none was captured" : known);
  }
  if (name.starts_with("layer")) return mask_of_probs(it->second);
  PS_TRY(mask::Reading reading, mask::read_tensor(it->second, std::nullopt, nullptr, {}));
  return std::move(reading.mask);
}

Result<std::shared_ptr<const Mask>> MaskSet::get(const std::string& name) {
  const auto it = made_.find(name);
  if (it != made_.end()) return it->second;
  PS_TRY(Mask mask, make(name));
  return made_[name] = std::make_shared<const Mask>(std::move(mask));
}

std::string cell_text(const PlanePair& pair, const mask::Program* program,
                      const mask::CellIndex& cell) {
  const auto& [b, h, i, j] = cell;
  const auto says = [&](const std::shared_ptr<const Bands>& plane) {
    return plane->at(i, j) ? "allowed" : "masked";
  };
  std::string out = "row " + std::to_string(b) + " head " + std::to_string(h) + " query " +
                    std::to_string(i) + " key " + std::to_string(j) + "\n";
  if (pair.expected) out += std::string("expected ") + says(pair.expected);
  if (pair.actual) out += std::string(pair.expected ? ", actual " : "actual ") + says(pair.actual);
  if (pair.expected && pair.actual && pair.expected->at(i, j) != pair.actual->at(i, j)) {
    out += pair.actual->at(i, j) ? ": a leak" : ": hidden";
  }
  if (program != nullptr) {
    mask::CellIndex inside = cell;
    inside[0] = std::min(b, program->dims.B - 1);
    inside[1] = std::min(h, program->dims.H - 1);
    out += "\nexpected: " + mask::why(*program, inside).text();
  }
  return out;
}

BlockLayer block_layer(const mask::BlockSummary& s, std::int64_t b, std::int64_t h) {
  BlockLayer out;
  out.bq = s.bq;
  out.bk = s.bk;
  const auto& fills = s.fills(mask::EdgeRule::kInbounds);
  for (const auto want : {mask::Fill::kFull, mask::Fill::kUnknown}) {
    Bands& layer = want == mask::Fill::kFull ? out.full : out.partial;
    for (std::int64_t r = 0; r < s.nq; ++r) {
      std::vector<mask::Run> runs;
      for (std::int64_t c = 0; c < s.nk; ++c) {
        const auto at = static_cast<std::size_t>(((b * s.dims.H + h) * s.nq + r) * s.nk + c);
        if (fills[at] != static_cast<std::uint8_t>(want)) continue;
        const std::int64_t lo = c * s.bk, hi = std::min(lo + s.bk, s.dims.KV);
        if (!runs.empty() && runs.back().hi.base() == lo) {
          runs.back().hi = mask::Edge(hi, 0);
        } else {
          runs.push_back({mask::Edge(lo, 0), mask::Edge(hi, 0)});
        }
      }
      layer.append(std::min((r + 1) * s.bq, s.dims.Q), runs);
    }
  }
  return out;
}

}  // namespace ps::view
