// Which cells of a point nobody should compare: rows of padding tokens, cache slots of padding, and
// attention rows that see no key (what they hold is a convention, not a result).
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/engine.h"
#include "core/points.h"
#include "core/tensor.h"

namespace ps {

class IgnoreRules {
 public:
  IgnoreRules(const ModelConfig& config, const StepInputs& inputs, std::int64_t past);

  // A uint8 tensor with as many axes as `shape`, each its size or 1; nothing = compare everything.
  std::optional<Tensor> mask_for(std::string_view point, const Shape& shape) const;
  std::int64_t empty_rows() const { return empty_rows_; }  // query rows of samples, without a key

 private:
  bool padding_query(std::int64_t sample, std::int64_t token) const;
  bool empty_query(std::int64_t sample, std::int64_t token) const;
  bool one_key(std::int64_t sample, std::int64_t token) const;
  void read_visible();
  std::optional<Tensor> blind_rows(std::string_view op, const Shape& shape) const;
  bool padding_column(std::int64_t sample, std::int64_t column) const;

  const ModelConfig& config_;
  StepInputs inputs_;
  std::int64_t past_;
  std::int64_t prefix_;
  std::int64_t empty_rows_ = 0;
  // Of a mask from outside: [batch, blind_heads, length], rows that see no key; empty: none does.
  std::vector<bool> blind_;
  std::int64_t blind_heads_ = 1;
  std::vector<std::int64_t> first_real_;  // [batch] first real column; past+length where none is
};

}  // namespace ps
