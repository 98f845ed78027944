// Which layers of a run are judged, and how many rows of its projections, where somebody asked for
// a part of them only. What stands outside the layers is always judged.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace ps {

class Sample {
 public:
  Sample() = default;  // everything
  // "layers=0,4-7" or "every=8" (every eighth from layer 0 on, and the last); "rows=16", of each
  // projection; or one of the former, a comma, and the latter.
  static Result<Sample> parse(std::string_view text, std::int64_t layers, const std::string& where);

  bool all() const { return text_.empty(); }
  bool judges(std::string_view point) const;
  std::int64_t rows() const { return rows_; }  // of each projection; 0: all
  const std::string& text() const { return text_; }
  // "layers 1-3, 5-7": those that are left out.
  std::string left_out() const;

 private:
  std::string text_;
  std::vector<bool> judged_;  // by layer
  std::int64_t rows_ = 0;
};

}  // namespace ps
