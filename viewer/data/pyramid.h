// A matrix of numbers that can be looked at from any distance without losing the one that matters:
// each block of a level holds the worst of its four blocks below, so what a pixel shows is the
// worst of all cells under it.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <vector>

namespace ps::viewer {

enum class Pool : std::uint8_t {
  kMax,      // errors: the largest
  kExtreme,  // values: the one farthest from zero
};

class Pyramid {
 public:
  Pyramid() = default;
  // `cell(r, c)` is asked once for every cell. NaN wins over every number and is never lost. Empty
  // when it was stopped.
  static Pyramid build(std::int64_t rows, std::int64_t columns, Pool pool,
                       const std::function<float(std::int64_t, std::int64_t)>& cell,
                       const std::stop_token& stop = {});

  bool empty() const { return levels_.empty(); }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  // The worst of rows [r0, r1) and columns [c0, c1), or of a little more: blocks that the edges cut
  // count whole, and no block is larger than the region.
  float worst(std::int64_t r0, std::int64_t r1, std::int64_t c0, std::int64_t c1) const;
  float all() const;  // the worst of everything
  // Over the finite cells; low > high where there is none.
  float low() const { return low_; }
  float high() const { return high_; }
  float smallest_positive() const { return smallest_positive_; }
  std::int64_t nonfinite() const { return nonfinite_; }
  std::size_t bytes() const;

 private:
  struct Level {
    std::int64_t rows = 0, columns = 0;
    std::vector<float> cells;
  };
  float pooled(float a, float b) const;
  Pool pool_ = Pool::kMax;
  std::int64_t rows_ = 0, columns_ = 0;
  int base_ = 0;  // a cell of levels_[0] is a block of 2^base_ cells a side
  std::vector<Level> levels_;
  float low_ = 1, high_ = 0, smallest_positive_ = 0;
  std::int64_t nonfinite_ = 0;
};

}  // namespace ps::viewer
