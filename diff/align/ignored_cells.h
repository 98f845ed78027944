// Cells that no comparison of two traces should judge: rows and cache slots of padding tokens, and
// what follows from attention rows that see no key (a convention, not a result).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/tensor.h"
#include "core/trace.h"

namespace ps {

class IgnoredCells {
 public:
  // From the expected step's attention_mask and model:mask, where it has them.
  explicit IgnoredCells(const TraceStep& step);

  // As CompareOptions::ignore wants it; nothing = every cell counts.
  std::optional<Tensor> marks_for(std::string_view point, const Shape& shape) const;
  std::int64_t batch() const { return batch_; }    // 0: the step does not say
  std::int64_t length() const { return length_; }  // new tokens; 0: the step does not say
  std::int64_t empty_rows() const;                 // query rows without a key, padding left out

 private:
  bool padding_column(std::int64_t sample, std::int64_t column) const;
  bool padding_query(std::int64_t sample, std::int64_t token) const;
  bool empty_query(std::int64_t row, std::int64_t token) const;

  std::int64_t batch_ = 0, length_ = 0, total_ = 0;
  std::vector<bool> real_;   // [batch, total]; empty: all real
  std::vector<bool> empty_;  // [mask_rows, length] no head of this row sees a key; empty: none
  std::int64_t mask_rows_ = 0;
};

}  // namespace ps
