#include "diff/view/row_sum.h"

#include <algorithm>

namespace ps::view {

RowSum::RowSum(double x0, double zoom, int width)
    : x0_(x0),
      zoom_(zoom),
      width_(width),
      step_(static_cast<std::size_t>(width)),
      here_(static_cast<std::size_t>(width)),
      touched_(static_cast<std::size_t>(width / 64 + 1)) {}

void RowSum::clear() {
  for (std::size_t w = 0; w < touched_.size(); ++w) {
    for (std::uint64_t bits = touched_[w]; bits != 0; bits &= bits - 1) {
      const std::size_t x = w * 64 + static_cast<std::size_t>(__builtin_ctzll(bits));
      step_[x] = here_[x] = 0;
    }
    touched_[w] = 0;
  }
}

void RowSum::add(const mask::Bands::Band& band, std::int64_t first, std::int64_t last,
                 double weight) {
  for (const mask::Run& run : band.runs) {
    add_end(run.lo, first, last, weight);
    add_end(run.hi, first, last, -weight);
  }
}

void RowSum::from_pixel(std::int64_t x, double weight) {
  if (x >= width_) return;
  const auto at = static_cast<std::size_t>(std::max<std::int64_t>(x, 0));
  step_[at] += weight;
  touched_[at / 64] |= std::uint64_t{1} << (at % 64);
}

void RowSum::add_end(mask::Edge end, std::int64_t first, std::int64_t last, double weight) {
  const std::int64_t n = last - first;
  if (end.slope() == 0) {
    const double x = (static_cast<double>(end.base()) - x0_) * zoom_;
    if (zoom_ >= 1 || x <= 0 || x >= width_) {
      // Zoomed in, the first pixel whose centre lies behind the end.
      from_pixel(
          x >= width_ ? width_ : static_cast<std::int64_t>(zoom_ >= 1 ? std::ceil(x - 0.5) : 0),
          weight * static_cast<double>(n));
      return;
    }
    const auto at = static_cast<std::size_t>(x);
    here_[at] += weight * static_cast<double>(n) * (static_cast<double>(at + 1) - x);
    touched_[at / 64] |= std::uint64_t{1} << (at % 64);
    from_pixel(static_cast<std::int64_t>(at) + 1, weight * static_cast<double>(n));
    return;
  }
  add_many(std::min(end.at(first), end.at(last - 1)), n, weight);
}

void RowSum::add_many(std::int64_t lowest, std::int64_t n, double weight) {
  std::int64_t v = lowest;
  const std::int64_t stop = lowest + n;
  // Ends left of the view: all pixels lie behind them.
  const auto left = static_cast<std::int64_t>(std::ceil(x0_));
  if (v < left) {
    const std::int64_t k = std::min(left, stop) - v;
    from_pixel(0, weight * static_cast<double>(k));
    v += k;
  }
  while (v < stop) {
    const double x = (static_cast<double>(v) - x0_) * zoom_;
    if (x >= width_) return;
    if (zoom_ >= 1) {
      from_pixel(static_cast<std::int64_t>(std::ceil(x - 0.5)), weight);
      ++v;
      continue;
    }
    // Those that fall into this pixel, each covering what is right of it.
    const auto at = static_cast<std::size_t>(x);
    const double border = x0_ + static_cast<double>(at + 1) / zoom_;
    const std::int64_t k =
        std::clamp<std::int64_t>(static_cast<std::int64_t>(std::ceil(border)) - v, 1, stop - v);
    const auto count = static_cast<double>(k);
    const double first_share = static_cast<double>(at + 1) - x;
    here_[at] += weight * (count * first_share - zoom_ * count * (count - 1) / 2);
    touched_[at / 64] |= std::uint64_t{1} << (at % 64);
    from_pixel(static_cast<std::int64_t>(at) + 1, weight * count);
    v += k;
  }
}

}  // namespace ps::view
