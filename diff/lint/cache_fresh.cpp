// The new slots of a cache are the step's own keys, rotated, and values.
#include <cmath>

#include "diff/lint/cache_cells.h"

namespace ps {

NewSlots::NewSlots(const SafetensorsFile& step, const CacheName& cache, const Cells& now,
                   const ModelConfig& config)
    : step_(step),
      cache_(cache),
      now_(now),
      c_(config),
      attn_("model.layers." + std::to_string(cache.layer) + ".self_attn") {
  own_ = cache.keys ? Fresh{step.find(attn_ + ":k_rope"), false}
                    : Fresh{step.find(attn_ + ".v_proj"), true};
  if (!own_.fits(c_, now.rows()) || own_.tokens() > now.slots()) return;
  tokens_ = own_.tokens();
  first_ = now.slots() - tokens_;
  comparable_ = own_.view->dtype == now.view->dtype;
}

double NewSlots::found(At at, std::int64_t token, std::int64_t channel) const {
  const std::int64_t slot = (at.row * now_.heads() + at.head) * now_.slots() + first_ + token;
  return value_at(*now_.view, slot * c_.head_dim + channel);
}

bool NewSlots::holds(At at, const Fresh& fresh, At from, std::int64_t shift) const {
  for (std::int64_t s = std::max<std::int64_t>(-shift, 0);
       s < tokens_ - std::max<std::int64_t>(shift, 0); ++s) {
    for (std::int64_t d = 0; d < c_.head_dim; ++d) {
      const double x = found(at, s + shift, d), y = fresh.at(c_, from.row, from.head, s, d);
      if (x != y && !(std::isnan(x) && std::isnan(y))) return false;
    }
  }
  return true;
}

bool NewSlots::holds_own(At at, const char* point) const {
  const Fresh fresh{step_.find(attn_ + point), true};
  return fresh.fits(c_, now_.rows()) && fresh.tokens() == tokens_ && holds(at, fresh, at);
}

template <class From, class To>
bool NewSlots::turns_into(std::int64_t row, const From& from, const To& to) const {
  const TensorView* cos = step_.find("model.rotary_emb:cos");
  const TensorView* sin = step_.find("model.rotary_emb:sin");
  if (cos == nullptr || sin == nullptr || cos->shape.size() != 3 || cos->shape != sin->shape ||
      cos->shape[1] != tokens_ || cos->shape[2] != c_.head_dim || cos->shape[0] == 0) {
    return false;
  }
  const std::int64_t half = c_.head_dim / 2, table = row % cos->shape[0];
  double error = 0, norm = 0, moved = 0;
  for (std::int64_t s = 0; s < tokens_; ++s) {
    for (std::int64_t d = 0; d < c_.head_dim; ++d) {
      const std::int64_t at = (table * tokens_ + s) * c_.head_dim + d;
      const double x = from(s, d), other = from(s, d < half ? d + half : d - half);
      const double turned =
          x * value_at(*cos, at) + (d < half ? -other : other) * value_at(*sin, at);
      error += (to(s, d) - turned) * (to(s, d) - turned);
      moved += (x - turned) * (x - turned);
      norm += turned * turned;
    }
  }
  const double u = unit_roundoff(now_.view->dtype);
  return error <= 16 * u * u * norm && moved > 1e-4 * norm;
}

std::optional<CacheFault> NewSlots::rotation_fault(At at) const {
  const auto never = [](const std::string& what) { return CacheFault{"TP043", "", what}; };
  if (c_.qk_norm && holds_own(at, ".k_proj")) {
    return never("the cached keys are k_proj's output: they were neither normalised nor rotated");
  }
  const char* unrotated = c_.qk_norm ? ".k_norm" : ".k_proj";
  if (holds_own(at, unrotated)) {
    return never("the cached keys are " + std::string(unrotated + 1) +
                 "'s output: they were never rotated");
  }
  const auto cached = [&](std::int64_t s, std::int64_t d) { return found(at, s, d); };
  const auto rotated = [&](std::int64_t s, std::int64_t d) {
    return own_.at(c_, at.row, at.head, s, d);
  };
  if (turns_into(at.row, cached, rotated)) {
    return never("the cached keys, rotated, are k_rope: they were never rotated");
  }
  if (turns_into(at.row, rotated, cached)) {
    return CacheFault{"rope-applied-twice-to-cache", "",
                      "the cached keys are the rotated ones, rotated once more"};
  }
  return std::nullopt;
}

// The head or row whose keys or values stand there instead.
std::string NewSlots::whose(At at) const {
  std::string out;
  for (std::int64_t head = 0; head < now_.heads(); ++head) {
    if (head == at.head || !holds(at, own_, {at.row, head})) continue;
    out += ": head " + std::to_string(at.head) + " holds head " + std::to_string(head) +
           "'s (heads swapped)";
    break;
  }
  for (std::int64_t row = 0; row < now_.rows(); ++row) {
    if (row == at.row || !holds(at, own_, {row, at.head})) continue;
    out += ": row " + std::to_string(at.row) + " holds row " + std::to_string(row) +
           "'s (rows swapped)";
    break;
  }
  return out;
}

CacheFault NewSlots::fault_at(At at) const {
  if (cache_.keys) {
    if (auto fault = rotation_fault(at)) return *std::move(fault);
  }
  const char* kHole = "cache-hole-or-slot-off-by-one";
  const std::string message =
      std::string("the new slots do not hold the step's own ") + (cache_.keys ? "keys" : "values");
  if (all_zero(now_.run(at.row, at.head, now_.slots() - 1, 1))) {
    return {kHole, "", message + ": the last slot was never written (zeros)"};
  }
  if (tokens_ > 1 && holds(at, own_, at, -1)) {
    return {kHole, "", message + ": they stand one slot too early"};
  }
  return {"TP041", "", message + whose(at)};
}

std::optional<CacheFault> NewSlots::fault() const {
  if (!comparable_) return std::nullopt;
  for (std::int64_t row = 0; row < now_.rows(); ++row) {
    for (std::int64_t head = 0; head < now_.heads(); ++head) {
      if (holds({row, head}, own_, {row, head})) continue;
      CacheFault fault = fault_at({row, head});
      fault.where = cache_place(row, head, first_, c_, now_.rows());
      return fault;
    }
  }
  return std::nullopt;
}

}  // namespace ps
