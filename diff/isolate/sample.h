// Which layers of a run are judged, where somebody asked for a part of them only. What stands
// outside the layers is always judged.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace ps {

class Sample {
 public:
  Sample() = default;  // all layers
  // "layers=0,4-7" or "every=8" (every eighth from layer 0 on, and the last).
  static Result<Sample> parse(std::string_view text, std::int64_t layers, const std::string& where);

  bool all() const { return text_.empty(); }
  bool judges(std::string_view point) const;
  const std::string& text() const { return text_; }
  // "layers 1-3, 5-7": those that are left out.
  std::string left_out() const;

 private:
  std::string text_;
  std::vector<bool> judged_;  // by layer
};

}  // namespace ps
