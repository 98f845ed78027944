#include "core/sketch.h"

#include <bit>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/rng.h"

namespace ps {

Tensor srht_sketch(std::int64_t dim, std::int64_t r, std::uint64_t seed) {
  const auto n = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(dim)));
  PS_CHECK(dim >= 1 && r >= 1 && r <= n, "a sketch of " + std::to_string(r) + " columns");
  const Rng signs(seed, 0), order(seed, 1);
  std::vector<std::int64_t> columns(static_cast<std::size_t>(n));
  std::iota(columns.begin(), columns.end(), 0);
  for (std::int64_t i = 0; i < r; ++i) {  // the first r places of a shuffle
    const std::int64_t other = i + order.below(static_cast<std::uint64_t>(i), n - i);
    std::swap(columns[static_cast<std::size_t>(i)], columns[static_cast<std::size_t>(other)]);
  }
  Tensor out(DType::kF32, {dim, r});
  const double scale = 1 / std::sqrt(static_cast<double>(r));
  for (std::int64_t d = 0; d < dim; ++d) {
    const bool flipped = (signs.bits(static_cast<std::uint64_t>(d)) & 1) != 0;
    for (std::int64_t c = 0; c < r; ++c) {
      const auto common = static_cast<std::uint64_t>(d & columns[static_cast<std::size_t>(c)]);
      const bool negative = (std::popcount(common) % 2 == 1) != flipped;
      out.as<float>()[static_cast<std::size_t>(d * r + c)] =
          static_cast<float>(negative ? -scale : scale);
    }
  }
  return out;
}

}  // namespace ps
