// A reduced value against the ranks' partial sums of it.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace ps {

// The one factor between two values, if there is one: ||full - c sum|| within the bound.
struct SumCheck {
  bool equal = true;
  double factor = 0;  // full = factor * sum, in the least squares
  bool scaled = false;
  std::int64_t own = -1;  // a rank whose value is its own partial sum
  std::int64_t cell = -1;
};

// The reduced value on rank r against the sum of all partial sums. Partials and their sum are
// rounded to the run's type: each of tp + 1 roundings is at most u of the running sum.
SumCheck check_sum(const std::vector<TensorView>& partials, const TensorView& full);

// Whether a value is the sum of the parts and one row more, the same for all of its rows: a bias.
bool off_by_one_row(const std::vector<TensorView>& partials, const TensorView& full);

}  // namespace ps
