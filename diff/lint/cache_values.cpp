#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "diff/lint/cache.h"

namespace ps {

namespace {

// Cells of a [rows, heads, slots, channels] cache.
struct Cells {
  const TensorView* view;
  std::int64_t rows() const { return view->shape[0]; }
  std::int64_t heads() const { return view->shape[1]; }
  std::int64_t slots() const { return view->shape[2]; }
  std::int64_t channels() const { return view->shape[3]; }
  // The bytes of slots [begin, begin + count) of a row and head.
  std::span<const std::byte> run(std::int64_t row, std::int64_t head, std::int64_t begin,
                                 std::int64_t count) const {
    const std::int64_t size = channels() * size_of(view->dtype);
    const std::int64_t at = ((row * heads() + head) * slots() + begin) * size;
    return view->bytes.subspan(static_cast<std::size_t>(at),
                               static_cast<std::size_t>(count * size));
  }
};

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}
bool all_zero(std::span<const std::byte> a) {
  return std::all_of(a.begin(), a.end(), [](std::byte b) { return b == std::byte{0}; });
}

std::string place(std::int64_t row, std::int64_t head, std::int64_t slot, const ModelConfig& c,
                  std::int64_t rows) {
  const std::int64_t batch = std::max<std::int64_t>(rows / c.replicas, 1);
  return "replica=" + std::to_string(row / batch) + " batch=" + std::to_string(row % batch) +
         " kv_head=" + std::to_string(head) + " slot=" + std::to_string(slot);
}

// A layer's new keys or values of a step, as [row, head, token, channel] from whatever the trace
// has: k_rope, k_proj (flat), v_proj (flat).
struct Fresh {
  const TensorView* view = nullptr;
  bool flat = false;  // [row, token, head * channel]
  double at(const ModelConfig& c, std::int64_t row, std::int64_t head, std::int64_t token,
            std::int64_t channel) const {
    const std::int64_t d = c.head_dim, k = c.kv_heads;
    if (flat) return value_at(*view, ((row * view->shape[1] + token) * k + head) * d + channel);
    return value_at(*view, ((row * k + head) * view->shape[2] + token) * d + channel);
  }
  std::int64_t tokens() const { return view->shape[flat ? 1 : 2]; }
  bool fits(const ModelConfig& c, std::int64_t rows) const {
    if (view == nullptr) return false;
    const std::int64_t width = flat ? c.kv_heads * c.head_dim : c.head_dim;
    return view->shape.size() == (flat ? 3U : 4U) && view->shape[0] == rows &&
           view->shape.back() == width && (flat || view->shape[1] == c.kv_heads);
  }
};

class Values {
 public:
  Values(const Trace& trace, const ModelConfig& config) : trace_(trace), c_(config) {}

  std::vector<Finding> run() {
    std::int64_t rank = trace_.steps().empty() ? 0 : trace_.steps()[0].rank;
    for (const TraceStep& step : trace_.steps()) {
      if (step.rank != rank || step.op == StepOp::kGenerate) continue;
      for (const auto& entry : step.tensors->entries()) {
        const auto cache = cache_name(entry.name);
        if (!cache || cache->layer >= c_.layers || entry.view.shape.size() != 4) continue;
        if (entry.view.shape[1] != c_.kv_heads || entry.view.shape[3] != c_.head_dim) continue;
        check(step, entry.name, *cache, entry.view);
      }
    }
    return std::move(findings_);
  }

 private:
  void say(const TraceStep& step, std::string id, const std::string& name, std::string where,
           std::string message) {
    Finding f;
    f.id = std::move(id);
    f.fault_class = "cache";
    f.step = step.step;
    f.rank = step.rank;
    f.point = name;
    f.where = std::move(where);
    f.message = std::move(message);
    findings_.push_back(std::move(f));
  }

  void check(const TraceStep& step, const std::string& name, const CacheName& cache,
             const TensorView& view) {
    const auto key = std::pair(cache.layer, cache.keys);
    const auto before = before_.find(key);
    const Cells now{&view};
    const bool cross_kv = c_.cross_kv_layer[static_cast<std::size_t>(cache.layer)];
    const bool forgets = cross_kv && !c_.cross_kv_causal;
    if (step.op == StepOp::kReorderCache) {
      if (before != before_.end()) check_reorder(step, name, Cells{before->second}, now);
    } else {
      std::int64_t fresh = 0;
      const bool ok = check_fresh(step, name, cache, now, fresh);
      if (before != before_.end() && !forgets) {
        check_past(step, name, Cells{before->second}, now, fresh);
      } else if (!cross_kv && ok) {
        check_prefix(step, name, now);
      }
    }
    before_[key] = &view;
  }

  // Row p*B + i holds what row p*B + beam_idx[i] held, in every replica.
  void check_reorder(const TraceStep& step, const std::string& name, const Cells& before,
                     const Cells& now) {
    const std::int64_t batch = before.rows() / c_.replicas;
    if (now.rows() != before.rows() || now.slots() != before.slots() ||
        static_cast<std::int64_t>(step.beam_idx.size()) != batch) {
      return;  // the shape says so already
    }
    const auto row_is = [&](std::int64_t row, std::int64_t from) {
      for (std::int64_t h = 0; h < now.heads(); ++h) {
        if (!same(now.run(row, h, 0, now.slots()), before.run(from, h, 0, now.slots()))) {
          return false;
        }
      }
      return true;
    };
    for (std::int64_t row = 0; row < now.rows(); ++row) {
      const std::int64_t p = row / batch, b = row % batch;
      const std::int64_t from = p * batch + step.beam_idx[static_cast<std::size_t>(b)];
      if (row_is(row, from)) continue;
      std::string message = "row " + std::to_string(row) + " should hold what row " +
                            std::to_string(from) + " held (beam_idx " +
                            std::to_string(step.beam_idx[static_cast<std::size_t>(b)]) +
                            " of replica " + std::to_string(p) + ")";
      if (row_is(row, row)) message += ", and was left as it was: the reorder was skipped";
      for (std::int64_t other = 0; other < now.rows() && !row_is(row, row); ++other) {
        if (!row_is(row, other)) continue;
        message += ", and holds row " + std::to_string(other) + "'s";
        if (other / batch != p) message += ": another replica's, so beam_idx was not replica-aware";
        break;
      }
      say(step, "TP044", name, place(row, 0, 0, c_, now.rows()), message);
      return;
    }
  }

  // The new slots are the step's own keys (rotated) and values.
  bool check_fresh(const TraceStep& step, const std::string& name, const CacheName& cache,
                   const Cells& now, std::int64_t& tokens) {
    const std::string attn = "model.layers." + std::to_string(cache.layer) + ".self_attn";
    const SafetensorsFile& t = *step.tensors;
    const Fresh right =
        cache.keys ? Fresh{t.find(attn + ":k_rope"), false} : Fresh{t.find(attn + ".v_proj"), true};
    if (!right.fits(c_, now.rows()) || right.tokens() > now.slots()) return true;
    tokens = right.tokens();
    if (right.view->dtype != now.view->dtype) return true;
    const std::int64_t first = now.slots() - tokens;
    const auto holds = [&](const Fresh& f, std::int64_t from_row, std::int64_t row,
                           std::int64_t from_head, std::int64_t h, std::int64_t shift) {
      for (std::int64_t s = std::max<std::int64_t>(-shift, 0);
           s < tokens - std::max<std::int64_t>(shift, 0); ++s) {
        for (std::int64_t d = 0; d < c_.head_dim; ++d) {
          const std::int64_t slot = first + s + shift;
          const double x =
              value_at(*now.view, ((row * now.heads() + h) * now.slots() + slot) * c_.head_dim + d);
          const double y = f.at(c_, from_row, from_head, s, d);
          if (x != y && !(std::isnan(x) && std::isnan(y))) return false;
        }
      }
      return true;
    };
    for (std::int64_t row = 0; row < now.rows(); ++row) {
      for (std::int64_t h = 0; h < now.heads(); ++h) {
        if (holds(right, row, row, h, h, 0)) continue;
        std::string id = "TP041", message = "the new slots do not hold the step's own ";
        message += cache.keys ? "keys" : "values";
        const Fresh flat{t.find(attn + ".k_proj"), true};
        const std::string rows_of = std::to_string(row);
        if (cache.keys && flat.fits(c_, now.rows()) && holds(flat, row, row, h, h, 0)) {
          id = "TP043";
          message = "the cached keys are k_proj's output: they were never rotated";
        } else if (cache.keys && rotated_again(step, right, now, row, h, first, tokens)) {
          id = "rope-applied-twice-to-cache";
          message = "the cached keys are the rotated ones, rotated once more";
        } else if (all_zero(now.run(row, h, now.slots() - 1, 1))) {
          id = "cache-hole-or-slot-off-by-one";
          message += ": the last slot was never written (zeros)";
        } else if (tokens > 1 && holds(right, row, row, h, h, -1)) {
          id = "cache-hole-or-slot-off-by-one";
          message += ": they stand one slot too early";
        } else {
          for (std::int64_t other = 0; other < now.heads(); ++other) {
            if (other == h || !holds(right, row, row, other, h, 0)) continue;
            message += ": head " + std::to_string(h) + " holds head " + std::to_string(other) +
                       "'s (heads swapped)";
            break;
          }
          for (std::int64_t other = 0; other < now.rows(); ++other) {
            if (other == row || !holds(right, other, row, h, h, 0)) continue;
            message +=
                ": row " + rows_of + " holds row " + std::to_string(other) + "'s (rows swapped)";
            break;
          }
        }
        say(step, id, name, place(row, h, first, c_, now.rows()), message);
        return false;
      }
    }
    return true;
  }

  // k_rope turned once more by the step's tables.
  bool rotated_again(const TraceStep& step, const Fresh& rope, const Cells& now, std::int64_t row,
                     std::int64_t h, std::int64_t first, std::int64_t tokens) const {
    const TensorView* cos = step.tensors->find("model.rotary_emb:cos");
    const TensorView* sin = step.tensors->find("model.rotary_emb:sin");
    if (cos == nullptr || sin == nullptr || cos->shape.size() != 3 || cos->shape != sin->shape ||
        cos->shape[1] != tokens || cos->shape[2] != c_.head_dim || cos->shape[0] == 0) {
      return false;
    }
    const std::int64_t half = c_.head_dim / 2, table = row % cos->shape[0];
    double error = 0, norm = 0, moved = 0;
    for (std::int64_t s = 0; s < tokens; ++s) {
      for (std::int64_t d = 0; d < c_.head_dim; ++d) {
        const std::int64_t at = (table * tokens + s) * c_.head_dim + d;
        const double x = rope.at(c_, row, h, s, d);
        const double other = rope.at(c_, row, h, s, d < half ? d + half : d - half);
        const double turned =
            x * value_at(*cos, at) + (d < half ? -other : other) * value_at(*sin, at);
        const double found = value_at(
            *now.view, ((row * now.heads() + h) * now.slots() + first + s) * c_.head_dim + d);
        error += (found - turned) * (found - turned);
        moved += (x - turned) * (x - turned);
        norm += turned * turned;
      }
    }
    const double u = unit_roundoff(now.view->dtype);
    return error <= 16 * u * u * norm && moved > 1e-4 * norm;
  }

  // What was in the cache is still there, bit for bit, and it grew by what is new.
  void check_past(const TraceStep& step, const std::string& name, const Cells& before,
                  const Cells& now, std::int64_t fresh) {
    if (now.view->dtype != before.view->dtype || now.rows() != before.rows()) return;
    if (fresh > 0 && now.slots() != before.slots() + fresh) {
      say(step, "TP040", name, "axis 2",
          "axis 2 is slots: " + std::to_string(before.slots() + fresh) + " expected (" +
              std::to_string(before.slots()) + " before and " + std::to_string(fresh) + " new), " +
              std::to_string(now.slots()) + " found");
      return;
    }
    if (now.slots() < before.slots()) return;
    for (std::int64_t row = 0; row < now.rows(); ++row) {
      for (std::int64_t h = 0; h < now.heads(); ++h) {
        for (std::int64_t s = 0; s < before.slots(); ++s) {
          if (same(now.run(row, h, s, 1), before.run(row, h, s, 1))) continue;
          std::string message = "slot " + std::to_string(s) +
                                " was in the cache before this step and was changed by it";
          if (all_zero(now.run(row, h, s, 1))) message += " (to zeros)";
          for (std::int64_t other = 0; other < now.rows(); ++other) {
            if (other == row || !same(now.run(row, h, s, 1), before.run(other, h, s, 1))) continue;
            message += ": it holds row " + std::to_string(other) + "'s";
            break;
          }
          say(step, "TP041", name, place(row, h, s, c_, now.rows()), message);
          return;
        }
      }
    }
  }

  // Every sample of a replica starts with the same prefix, which is not zeros.
  void check_prefix(const TraceStep& step, const std::string& name, const Cells& now) {
    const std::int64_t prefix = c_.prefix_tokens, batch = now.rows() / c_.replicas;
    if (prefix == 0 || now.slots() <= prefix || batch == 0) return;
    bool zeros = true, rest_zero = true;
    for (std::int64_t row = 0; row < now.rows(); ++row) {
      for (std::int64_t h = 0; h < now.heads(); ++h) {
        zeros = zeros && all_zero(now.run(row, h, 0, prefix));
        rest_zero = rest_zero && all_zero(now.run(row, h, prefix, now.slots() - prefix));
        const std::int64_t first = row / batch * batch;
        if (same(now.run(row, h, 0, prefix), now.run(first, h, 0, prefix))) continue;
        say(step, "replica-prefix-order", name, place(row, h, 0, c_, now.rows()),
            "rows " + std::to_string(first) + " and " + std::to_string(row) +
                " are samples of replica " + std::to_string(row / batch) +
                " and start with different prefixes: rows are replica-major, p*B + b");
        return;
      }
    }
    if (zeros && !rest_zero) {
      say(step, "cache-prefix-zero-placeholder", name, place(0, 0, 0, c_, now.rows()),
          "the first " + std::to_string(prefix) +
              " slots are zeros: the prefix was never filled in");
    }
  }

  const Trace& trace_;
  const ModelConfig& c_;
  std::map<std::pair<std::int64_t, bool>, const TensorView*> before_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> cache_value_findings(const Trace& trace, const ModelConfig& config) {
  return Values(trace, config).run();
}

}  // namespace ps
