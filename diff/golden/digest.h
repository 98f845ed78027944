// A tensor in a hundred numbers: classes counted, a few cells as they are, and 32 sums of all cells
// under random signs. The mean square of the differences of those sums is an unbiased estimate of
// ||a - b||^2, so that no cell can change by much without being seen, wherever it is.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace ps {

struct Digest {
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t hash = 0;  // FNV-1a of the bytes
  std::int64_t nan = 0, pos_inf = 0, neg_inf = 0, ignored = 0;
  double rms = 0;  // of the finite cells
  std::array<double, 32> sketch{};
  std::vector<std::pair<std::int64_t, double>> samples;  // flat index, value; finite ones
};

std::uint64_t fnv1a(std::span<const std::byte> bytes);
// Cells that `ignore` marks (as CompareOptions::ignore) count as zero.
Digest digest_of(const TensorView& value, const TensorView* ignore);

struct DigestMatch {
  bool ok = true;
  bool same_bits = false;
  double rel_l2 = 0;  // estimated
  std::string what;   // the first thing that is wrong, in words
};
// `layers`, and the run types of both sides, as default_bound() has them. A difference is called
// wrong where the estimate is over sqrt(3) times the bound: below 1e-7 false alarms at the bound
// itself.
DigestMatch match_digests(const Digest& candidate, const Digest& expected, DType a, DType b,
                          std::int64_t layers);

}  // namespace ps
