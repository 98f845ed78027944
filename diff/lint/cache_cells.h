// The cells of a cache, and what can be said of its rows from one step to a later one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/safetensors.h"
#include "core/trace.h"
#include "diff/lint/cache.h"

namespace ps {

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

inline bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}
inline bool all_zero(std::span<const std::byte> a) {
  return std::all_of(a.begin(), a.end(), [](std::byte b) { return b == std::byte{0}; });
}

// A layer's new keys or values of a step, as [row, head, token, channel] from whatever the trace
// has: k_rope, k_proj and v_proj (flat), k_norm.
struct Fresh {
  const TensorView* view = nullptr;
  bool flat = false;  // [row, token, head * channel], or [row, token, head, channel]
  double at(const ModelConfig& c, std::int64_t row, std::int64_t head, std::int64_t token,
            std::int64_t channel) const {
    const std::int64_t d = c.head_dim, k = c.kv_heads;
    if (flat) return value_at(*view, ((row * view->shape[1] + token) * k + head) * d + channel);
    return value_at(*view, ((row * k + head) * view->shape[2] + token) * d + channel);
  }
  std::int64_t tokens() const { return view->shape[flat ? 1 : 2]; }
  bool fits(const ModelConfig& c, std::int64_t rows) const {
    if (view == nullptr) return false;
    const Shape& s = view->shape;
    if (s.size() == 3) return flat && s[0] == rows && s[2] == c.kv_heads * c.head_dim;
    return s.size() == 4 && s[0] == rows && s[flat ? 2 : 1] == c.kv_heads && s[3] == c.head_dim;
  }
};

// What is wrong with a cache, before anybody says where it stands.
struct CacheFault {
  std::string id, where, message;
};
std::string cache_place(std::int64_t row, std::int64_t head, std::int64_t slot,
                        const ModelConfig& config, std::int64_t rows);

// The slots that a step added, against what it computed: k_rope and v_proj.
class NewSlots {
 public:
  NewSlots(const SafetensorsFile& step, const CacheName& cache, const Cells& now,
           const ModelConfig& config);
  // How many there are; 0 where the step does not hold its own keys or values.
  std::int64_t tokens() const { return tokens_; }
  // TP043, TP041 and what else has a name; nothing where they are right, or cannot be compared.
  std::optional<CacheFault> fault() const;

 private:
  struct At {
    std::int64_t row = 0, head = 0;
  };
  // Whether the new slots, but for those shifted out, are what `fresh` has at `from`.
  bool holds(At at, const Fresh& fresh, At from, std::int64_t shift = 0) const;
  bool holds_own(At at, const char* point) const;
  // Whether `from(token, channel)`, turned by the step's tables, is `to`, and turning changes it.
  template <class From, class To>
  bool turns_into(std::int64_t row, const From& from, const To& to) const;
  double found(At at, std::int64_t token, std::int64_t channel) const;
  std::optional<CacheFault> rotation_fault(At at) const;
  std::string whose(At at) const;
  CacheFault fault_at(At at) const;

  const SafetensorsFile& step_;
  CacheName cache_;
  Cells now_;
  const ModelConfig& c_;
  std::string attn_;  // "model.layers.0.self_attn"
  Fresh own_;
  std::int64_t tokens_ = 0, first_ = 0;  // the first new slot
  bool comparable_ = false;
};

// Which row each row came from: rows[p*B + b] = p*B + beam. Reorders one after the other compose.
class RowsFrom {
 public:
  RowsFrom(std::int64_t rows, std::int64_t replicas);
  // False where beam_idx fits no batch of so many rows.
  bool reorder(const std::vector<std::int64_t>& beam_idx);
  std::int64_t operator[](std::int64_t row) const { return from_[static_cast<std::size_t>(row)]; }
  bool moved() const { return moved_; }  // a reorder was among what was composed

 private:
  std::int64_t replicas_;
  std::vector<std::int64_t> from_;
  bool moved_ = false;
};

// A reorder's own cache: row p*B + b holds what row p*B + beam_idx[b] held (TP044).
std::optional<CacheFault> reorder_fault(const Cells& before, const Cells& now, const RowsFrom& from,
                                        const ModelConfig& config);
// A later step's: the slots that were there are what they were (TP041), in the rows that the
// reorders in between moved them to (TP044).
std::optional<CacheFault> past_fault(const Cells& before, const Cells& now, const RowsFrom& from,
                                     const ModelConfig& config);

}  // namespace ps
