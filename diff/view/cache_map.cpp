#include "diff/view/cache_map.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "diff/lint/cache.h"
#include "diff/view/attention_map.h"

namespace ps::view {

namespace {

// The cells of a [rows, heads, slots, channels] cache.
struct Cells {
  const TensorView* view = nullptr;
  std::int64_t rows() const { return view->shape[0]; }
  std::int64_t heads() const { return view->shape[1]; }
  std::int64_t slots() const { return view->shape[2]; }

  std::span<const std::byte> slot(std::int64_t row, std::int64_t head, std::int64_t slot) const {
    const std::int64_t size = view->shape[3] * size_of(view->dtype);
    const std::int64_t at = ((row * heads() + head) * slots() + slot) * size;
    return view->bytes.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(size));
  }
  bool empty(std::int64_t row, std::int64_t s) const {
    for (std::int64_t h = 0; h < heads(); ++h) {
      const auto bytes = slot(row, h, s);
      if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; })) {
        return false;
      }
    }
    return true;
  }
};

bool same(const Cells& a, std::int64_t row_a, const Cells& b, std::int64_t row_b, std::int64_t s) {
  for (std::int64_t h = 0; h < a.heads(); ++h) {
    const auto x = a.slot(row_a, h, s), y = b.slot(row_b, h, s);
    if (std::memcmp(x.data(), y.data(), x.size()) != 0) return false;
  }
  return true;
}

bool alike(const Cells& a, const Cells& b) {
  return a.view->dtype == b.view->dtype && a.rows() == b.rows() && a.heads() == b.heads() &&
         a.view->shape[3] == b.view->shape[3];
}

// Whether new slot `first + token` holds the step's own value; true where nothing tells.
bool holds_own(const Cells& cache, const TensorView* own, bool flat, std::int64_t row,
               std::int64_t token, std::int64_t tokens) {
  if (own == nullptr || own->dtype != cache.view->dtype) return true;
  const std::int64_t d = cache.view->shape[3], k = cache.heads();
  const Shape want = flat ? Shape{cache.rows(), tokens, k * d} : Shape{cache.rows(), k, tokens, d};
  if (own->shape != want) return true;
  const std::int64_t slot = cache.slots() - tokens + token;
  const auto size = static_cast<std::size_t>(d * size_of(own->dtype));
  for (std::int64_t h = 0; h < k; ++h) {
    const std::int64_t at = flat ? (row * tokens + token) * k + h : (row * k + h) * tokens + token;
    const auto a = cache.slot(row, h, slot);
    if (std::memcmp(a.data(), own->bytes.data() + static_cast<std::size_t>(at) * size, size) != 0) {
      return false;
    }
  }
  return true;
}

// What is known of every row of one layer's keys or values, step after step.
class History {
 public:
  History(const ModelConfig& config, std::int64_t layer, bool keys)
      : c_(config), layer_(layer), keys_(keys) {}

  void forward(const TraceStep& step, const Cells& now) {
    const bool forgets = c_.cross_kv_layer[static_cast<std::size_t>(layer_)] && !c_.cross_kv_causal;
    const bool first = before_.view == nullptr || !alike(before_, now) || forgets;
    const std::int64_t old = first ? 0 : std::min(before_.slots(), now.slots());
    const std::int64_t tokens = new_tokens(step, now, first ? -1 : now.slots() - before_.slots());
    const TensorView* mask = step.tensors->find("attention_mask");
    rows_.resize(static_cast<std::size_t>(now.rows()));
    for (std::int64_t row = 0; row < now.rows(); ++row) {
      auto& slots = rows_[static_cast<std::size_t>(row)];
      if (first) slots.clear();
      slots.resize(static_cast<std::size_t>(now.slots()));
      for (std::int64_t s = 0; s < now.slots(); ++s) {
        CacheSlot& slot = slots[static_cast<std::size_t>(s)];
        if (s < old) {
          if (!same(now, row, before_, row, s)) damage(slot, now, row, s, step.step);
          continue;
        }
        slot.owner = row;
        if (s < c_.prefix_tokens) {
          slot.state = SlotState::kPrefix;
        } else if (s < now.slots() - tokens) {
          slot.state = SlotState::kBefore;
        } else {
          write(slot, step, now, row, s - (now.slots() - tokens), tokens);
        }
        if (slot.state != SlotState::kForeign && now.empty(row, s)) {
          slot.state = SlotState::kEmpty;
          slot.changed = step.step;
        }
        if (slot.state == SlotState::kWritten && is_padding(mask, now, row, s)) {
          slot.state = SlotState::kPadding;
        }
      }
    }
    before_ = now;
  }

  void reorder(const TraceStep& step, const Cells& now) {
    const std::int64_t batch = now.rows() / std::max<std::int64_t>(c_.replicas, 1);
    const bool fits = before_.view != nullptr && alike(before_, now) &&
                      before_.slots() == now.slots() && std::ssize(step.beam_idx) == batch;
    if (!fits) return;
    const auto old = rows_;
    for (std::int64_t row = 0; row < now.rows(); ++row) {
      const std::int64_t beam = step.beam_idx[static_cast<std::size_t>(row % batch)];
      if (beam < 0 || beam >= batch) continue;
      const std::int64_t from = row / batch * batch + beam;
      auto& slots = rows_[static_cast<std::size_t>(row)];
      slots = old[static_cast<std::size_t>(from)];
      for (std::int64_t s = 0; s < now.slots(); ++s) {
        if (same(now, row, before_, from, s)) continue;
        CacheSlot& slot = slots[static_cast<std::size_t>(s)];
        slot = old[static_cast<std::size_t>(row)][static_cast<std::size_t>(s)];
        if (same(now, row, before_, row, s)) {
          slot.state = SlotState::kStale;
          slot.changed = step.step;
        } else {
          damage(slot, now, row, s, step.step);
        }
      }
    }
    before_ = now;
  }

  // A reorder that was not captured: nothing is known of what stands where.
  void forget() {
    before_ = {};
    rows_.clear();
  }

  const std::vector<CacheSlot>* row(std::int64_t row) const {
    return row < std::ssize(rows_) ? &rows_[static_cast<std::size_t>(row)] : nullptr;
  }

 private:
  std::int64_t new_tokens(const TraceStep& step, const Cells& now, std::int64_t grown) const {
    const TensorView* ids = step.tensors->find("input_ids");
    const std::int64_t own = ids != nullptr && ids->shape.size() == 2 ? ids->shape[1] : grown;
    return std::clamp<std::int64_t>(own < 0 ? now.slots() - c_.prefix_tokens : own, 0, now.slots());
  }
  // The prefix is not in attention_mask.
  bool is_padding(const TensorView* mask, const Cells& now, std::int64_t row,
                  std::int64_t s) const {
    const std::int64_t key = s - c_.prefix_tokens;
    if (mask == nullptr || mask->shape.size() != 2 || key < 0 || key >= mask->shape[1])
      return false;
    const std::int64_t batch = std::max<std::int64_t>(now.rows() / c_.replicas, 1);
    if (mask->shape[0] != batch) return false;
    return value_at(*mask, row % batch * mask->shape[1] + key) == 0;
  }
  void write(CacheSlot& slot, const TraceStep& step, const Cells& now, std::int64_t row,
             std::int64_t token, std::int64_t tokens) const {
    const std::string attn = "model.layers." + std::to_string(layer_) + ".self_attn";
    const TensorView* own = step.tensors->find(attn + (keys_ ? ":k_rope" : ".v_proj"));
    slot.written = step.step;
    slot.state = SlotState::kWritten;
    const bool cross = c_.cross_kv_layer[static_cast<std::size_t>(layer_)];
    if (cross || holds_own(now, own, !keys_, row, token, tokens)) return;
    slot.state = SlotState::kForeign;
    slot.changed = step.step;
  }
  static void damage(CacheSlot& slot, const Cells& now, std::int64_t row, std::int64_t s,
                     std::int64_t step) {
    slot.state = now.empty(row, s) ? SlotState::kEmpty : SlotState::kOverwritten;
    slot.changed = step;
  }

  const ModelConfig& c_;
  std::int64_t layer_;
  bool keys_;
  Cells before_;
  std::vector<std::vector<CacheSlot>> rows_;
};

}  // namespace

std::string_view to_string(SlotState state) {
  switch (state) {
    case SlotState::kAbsent:
      return "not there";
    case SlotState::kPrefix:
      return "prefix";
    case SlotState::kPadding:
      return "padding";
    case SlotState::kWritten:
      return "written";
    case SlotState::kBefore:
      return "not followed";
    case SlotState::kOverwritten:
      return "overwritten";
    case SlotState::kStale:
      return "stale";
    case SlotState::kForeign:
      return "not its own";
    case SlotState::kEmpty:
      return "empty";
  }
  return "";
}

bool is_wrong(SlotState state) { return state >= SlotState::kOverwritten; }

CacheMap cache_map(const Trace& trace, const ModelConfig& config, std::int64_t step,
                   std::int64_t rank, std::int64_t row, CacheSide side) {
  std::map<std::pair<std::int64_t, bool>, History> histories;
  for (const TraceStep& s : trace.steps()) {
    if (s.rank != rank || s.step > step || s.op == StepOp::kGenerate || !s.tensors) continue;
    std::set<std::pair<std::int64_t, bool>> seen;
    for (const auto& entry : s.tensors->entries()) {
      const auto name = cache_name(entry.name);
      if (!name || name->layer >= config.layers || entry.view.shape.size() != 4) continue;
      if ((side == CacheSide::kKeys && !name->keys) || (side == CacheSide::kValues && name->keys)) {
        continue;
      }
      const auto key = std::pair(name->layer, name->keys);
      seen.insert(key);
      History& history = histories.try_emplace(key, config, name->layer, name->keys).first->second;
      const Cells cells{&entry.view};
      s.op == StepOp::kReorderCache ? history.reorder(s, cells) : history.forward(s, cells);
    }
    if (s.op != StepOp::kReorderCache) continue;
    for (auto& [key, history] : histories) {
      if (!seen.contains(key)) history.forget();
    }
  }
  CacheMap out;
  out.layers = config.layers;
  for (const auto& [key, history] : histories) {
    if (const auto* slots = history.row(row)) out.slots = std::max(out.slots, std::ssize(*slots));
  }
  out.cells.resize(static_cast<std::size_t>(out.layers * out.slots));
  for (const auto& [key, history] : histories) {
    const auto* slots = history.row(row);
    if (slots == nullptr) continue;
    for (std::size_t s = 0; s < slots->size(); ++s) {
      CacheSlot& cell = out.cells[static_cast<std::size_t>(key.first * out.slots) + s];
      if (!is_wrong(cell.state)) cell = (*slots)[s];
    }
  }
  out.wrong = std::count_if(out.cells.begin(), out.cells.end(),
                            [](const CacheSlot& s) { return is_wrong(s.state); });
  return out;
}

std::vector<double> slot_errors(const TensorView& actual, const TensorView& expected,
                                std::int64_t row) {
  if (actual.shape.size() != 4 || actual.shape != expected.shape || row >= actual.shape[0])
    return {};
  const std::int64_t heads = actual.shape[1], slots = actual.shape[2], d = actual.shape[3];
  std::vector<double> out(static_cast<std::size_t>(slots));
  double most = 0;
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t s = 0; s < slots; ++s) {
      double& error = out[static_cast<std::size_t>(s)];
      for (std::int64_t i = 0; i < d; ++i) {
        const std::int64_t at = ((row * heads + h) * slots + s) * d + i;
        const double a = value_at(actual, at), e = value_at(expected, at);
        if (std::isfinite(e)) most = std::max(most, std::fabs(e));
        if (std::isnan(error)) continue;
        if (classes_differ(a, e)) {
          error = NAN;
        } else if (std::isfinite(a)) {
          error = std::max(error, std::fabs(a - e));
        }
      }
    }
  }
  if (most > 0) {
    for (double& x : out) x /= most;
  }
  return out;
}

std::vector<double> slot_sizes(const TensorView& cache, std::int64_t row) {
  if (cache.shape.size() != 4 || row >= cache.shape[0]) return {};
  const std::int64_t heads = cache.shape[1], slots = cache.shape[2], d = cache.shape[3];
  std::vector<double> out(static_cast<std::size_t>(slots));
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t s = 0; s < slots; ++s) {
      for (std::int64_t i = 0; i < d; ++i) {
        const double x = value_at(cache, ((row * heads + h) * slots + s) * d + i);
        out[static_cast<std::size_t>(s)] += x * x;
      }
    }
  }
  for (double& x : out)
    x = std::sqrt(x / static_cast<double>(std::max<std::int64_t>(heads * d, 1)));
  return out;
}

}  // namespace ps::view
