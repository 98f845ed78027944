#include "viewer/data/pyramid.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ps::viewer {

namespace {

constexpr std::int64_t kMostCells = std::int64_t{1} << 24;  // of the finest level that is kept

std::int64_t halved(std::int64_t n) { return (n + 1) / 2; }

}  // namespace

float Pyramid::pooled(float a, float b) const {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<float>::quiet_NaN();
  if (pool_ == Pool::kMax) return std::max(a, b);
  return std::fabs(b) > std::fabs(a) ? b : a;
}

Pyramid Pyramid::build(std::int64_t rows, std::int64_t columns, Pool pool,
                       const std::function<float(std::int64_t, std::int64_t)>& cell,
                       const std::stop_token& stop) {
  Pyramid p;
  p.pool_ = pool;
  p.rows_ = rows;
  p.columns_ = columns;
  if (rows <= 0 || columns <= 0) return p;
  const auto blocks = [&](int base) {
    const std::int64_t side = std::int64_t{1} << base;
    return ((rows + side - 1) / side) * ((columns + side - 1) / side);
  };
  while (blocks(p.base_) > kMostCells) ++p.base_;
  const std::int64_t side = std::int64_t{1} << p.base_;
  Level finest{(rows + side - 1) / side, (columns + side - 1) / side, {}};
  finest.cells.assign(static_cast<std::size_t>(finest.rows * finest.columns), 0);
  p.low_ = std::numeric_limits<float>::infinity();
  p.high_ = -p.low_;
  p.smallest_positive_ = p.low_;
  for (std::int64_t r = 0; r < rows; ++r) {
    if (stop.stop_requested()) return {};
    float* row = finest.cells.data() + (r >> p.base_) * finest.columns;
    for (std::int64_t c = 0; c < columns; ++c) {
      const float x = cell(r, c);
      if (std::isfinite(x)) {
        p.low_ = std::min(p.low_, x);
        p.high_ = std::max(p.high_, x);
        if (x > 0) p.smallest_positive_ = std::min(p.smallest_positive_, x);
      } else {
        ++p.nonfinite_;
      }
      float& block = row[c >> p.base_];
      const bool first = (r & (side - 1)) == 0 && (c & (side - 1)) == 0;
      block = first ? x : p.pooled(block, x);
    }
  }
  p.levels_.push_back(std::move(finest));
  while (p.levels_.back().rows > 1 || p.levels_.back().columns > 1) {
    const Level& below = p.levels_.back();
    Level level{halved(below.rows), halved(below.columns), {}};
    level.cells.resize(static_cast<std::size_t>(level.rows * level.columns));
    for (std::int64_t r = 0; r < level.rows; ++r) {
      for (std::int64_t c = 0; c < level.columns; ++c) {
        float worst = below.cells[static_cast<std::size_t>(2 * r * below.columns + 2 * c)];
        for (const auto& [dr, dc] : {std::pair{0, 1}, {1, 0}, {1, 1}}) {
          const std::int64_t br = 2 * r + dr, bc = 2 * c + dc;
          if (br >= below.rows || bc >= below.columns) continue;
          worst = p.pooled(worst, below.cells[static_cast<std::size_t>(br * below.columns + bc)]);
        }
        level.cells[static_cast<std::size_t>(r * level.columns + c)] = worst;
      }
    }
    p.levels_.push_back(std::move(level));
  }
  return p;
}

float Pyramid::worst(std::int64_t r0, std::int64_t r1, std::int64_t c0, std::int64_t c1) const {
  r0 = std::clamp<std::int64_t>(r0, 0, rows_ - 1);
  c0 = std::clamp<std::int64_t>(c0, 0, columns_ - 1);
  r1 = std::clamp<std::int64_t>(r1, r0 + 1, rows_);
  c1 = std::clamp<std::int64_t>(c1, c0 + 1, columns_);
  // The largest blocks that fit into the shorter side: at most three of them a direction there.
  const std::int64_t shorter = std::min(r1 - r0, c1 - c0);
  std::size_t level = 0;
  while (level + 1 < levels_.size() &&
         (std::int64_t{1} << (base_ + static_cast<int>(level) + 1)) <= shorter) {
    ++level;
  }
  const int shift = base_ + static_cast<int>(level);
  const Level& l = levels_[level];
  float worst = l.cells[static_cast<std::size_t>((r0 >> shift) * l.columns + (c0 >> shift))];
  for (std::int64_t r = r0 >> shift; r <= (r1 - 1) >> shift; ++r) {
    for (std::int64_t c = c0 >> shift; c <= (c1 - 1) >> shift; ++c) {
      worst = pooled(worst, l.cells[static_cast<std::size_t>(r * l.columns + c)]);
    }
  }
  return worst;
}

float Pyramid::all() const { return levels_.empty() ? 0 : levels_.back().cells.front(); }

std::size_t Pyramid::bytes() const {
  std::size_t bytes = 0;
  for (const Level& level : levels_) bytes += level.cells.size() * sizeof(float);
  return bytes;
}

}  // namespace ps::viewer
