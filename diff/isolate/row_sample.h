// Some tokens of a projection. A linear map takes each row by itself, so a few rows of a long
// prompt show what is wrong with its weights for a small part of the work; a row that is not among
// them is not seen.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/tensor.h"

namespace ps {

class RowSample {
 public:
  // At most `rows` tokens of each row of the batch, the first and the last among them; which ones
  // between differs from point to point. Nothing where the op is no projection, there are no more
  // tokens, or its values are not all there as [R,S,width].
  static std::optional<RowSample> of(const OpInfo& op, const PointLookup& lookup,
                                     std::int64_t rows);

  TensorView value() const { return values_.at(point_).view(); }
  // These tokens of the op's output and inputs, and nothing else.
  PointLookup lookup() const;
  // The same tokens of what is to be ignored, given for [R,S,width]; an axis of 1 stays.
  std::optional<Tensor> rows_of(const std::optional<Tensor>& ignored) const;
  std::int64_t tokens() const { return static_cast<std::int64_t>(tokens_.size()); }

 private:
  Tensor taken(const TensorView& value) const;

  std::string point_;
  std::vector<std::int64_t> tokens_;
  std::map<std::string, Tensor, std::less<>> values_;
};

}  // namespace ps
