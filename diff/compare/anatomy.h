// A second look at a tensor that is wrong: which cells carry the error, and whether the candidate
// is the expected tensor after something simple (scaled, shifted, permuted).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "diff/compare/axes.h"
#include "diff/compare/compare.h"

namespace ps {

// The wrong cells, counted along one axis.
struct AxisShare {
  std::string name;
  std::int64_t size = 0;
  std::vector<std::int64_t> wrong;  // [size] wrong cells at each index
  std::string words;                // "replica 1 alone", "the last 3 of 13", "every second": of the
                                    // indices that are wrong; empty: all of them are
};

struct Anatomy {
  std::int64_t wrong = 0;  // cells over their bound or of another class
  std::string first;       // "replica=1 batch=0 head=3 query=7 channel=0"
  std::vector<AxisShare> axes;
  std::string geometry;  // the wrong cells in words
  std::string relation;  // "1.0101 x expected"; empty where nothing simple fits
  // The same as evidence of a finding: name and JSON text.
  std::vector<std::pair<std::string, std::string>> evidence;
};

// Both of one shape; `compared` is what compare() said with these options.
Anatomy anatomy(const TensorView& candidate, const TensorView& expected,
                const CompareOptions& options, const Comparison& compared,
                const std::vector<NamedAxis>& axes);

}  // namespace ps
