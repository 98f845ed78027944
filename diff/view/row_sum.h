// One row of pixels while it is summed up: for every pixel, the area that run lists cover in it.
// Each end of a run is one event, and an end that moves by one a row is one event a pixel that it
// crosses, so that the cost does not depend on how many rows of the mask a pixel holds.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "diff/mask/bands.h"

namespace ps::view {

class RowSum {
 public:
  RowSum(double x0, double zoom, int width);

  void clear();
  // Rows [first, last) of `bands`' own band, each with this weight.
  void add(const mask::Bands::Band& band, std::int64_t first, std::int64_t last, double weight);

  // Calls span(from, to, sum) for neighbouring pixels of the same sum, left to right, all of them.
  template <class Span>
  void spans(const Span& span) const {
    double level = 0;
    int from = 0;
    for (std::size_t w = 0; w < touched_.size(); ++w) {
      for (std::uint64_t bits = touched_[w]; bits != 0; bits &= bits - 1) {
        const int x = static_cast<int>(w * 64) + __builtin_ctzll(bits);
        if (x >= width_) break;
        if (from < x) span(from, x, level);
        level += step_[static_cast<std::size_t>(x)];
        span(x, x + 1, level + here_[static_cast<std::size_t>(x)]);
        from = x + 1;
      }
    }
    if (from < width_) span(from, width_, level);
  }

 private:
  // All columns from the end on, for rows [first, last).
  void add_end(mask::Edge end, std::int64_t first, std::int64_t last, double weight);
  void add_many(std::int64_t lowest, std::int64_t n,
                double weight);  // ends lowest, lowest + 1, ...
  void from_pixel(std::int64_t x, double weight);

  double x0_, zoom_;
  int width_;
  std::vector<double> step_, here_;  // what a pixel adds to all from it on, and to itself alone
  std::vector<std::uint64_t> touched_;
};

}  // namespace ps::view
