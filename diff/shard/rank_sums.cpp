#include "diff/shard/rank_sums.h"

#include <cmath>

#include "diff/compare/closeness.h"

namespace ps {

SumCheck check_sum(const std::vector<TensorView>& partials, const TensorView& full) {
  const double u = unit_roundoff(full.dtype);
  const double roundings = static_cast<double>(partials.size()) + 1;
  SumCheck out;
  double dot = 0, norm = 0;
  for (std::int64_t i = 0; i < full.count(); ++i) {
    double sum = 0, size = 0;
    for (const TensorView& p : partials) {
      sum += value_at(p, i);
      size += std::fabs(value_at(p, i));
    }
    const double x = value_at(full, i);
    dot += x * sum;
    norm += sum * sum;
    if (std::fabs(x - sum) <= roundings * u * size || (std::isnan(x) && std::isnan(sum))) continue;
    if (out.equal) out.cell = i;
    out.equal = false;
  }
  if (out.equal) return out;
  out.factor = norm > 0 ? dot / norm : 0;
  out.scaled = true;
  for (std::int64_t i = 0; i < full.count() && out.scaled; ++i) {
    double sum = 0, size = 0;
    for (const TensorView& p : partials) {
      sum += value_at(p, i);
      size += std::fabs(value_at(p, i));
    }
    out.scaled = std::fabs(value_at(full, i) - out.factor * sum) <= 2 * roundings * u * size;
  }
  for (std::size_t r = 0; r < partials.size() && out.own < 0; ++r) {
    const Closeness c = compare(full, partials[r]);
    if (c.same_shape && c.max_abs == 0 && c.class_mismatches == 0) {
      out.own = static_cast<std::int64_t>(r);
    }
  }
  return out;
}

bool off_by_one_row(const std::vector<TensorView>& partials, const TensorView& full) {
  const std::int64_t width = full.shape.back();
  const double u = unit_roundoff(full.dtype);
  const double roundings = static_cast<double>(partials.size()) + 2;
  std::vector<double> row(static_cast<std::size_t>(width)), slack(row.size());
  for (std::int64_t i = 0; i < full.count(); ++i) {
    double sum = 0, size = std::fabs(value_at(full, i));
    for (const TensorView& p : partials) {
      sum += value_at(p, i);
      size += std::fabs(value_at(p, i));
    }
    const double more = value_at(full, i) - sum;
    const auto c = static_cast<std::size_t>(i % width);
    if (i < width) {
      row[c] = more;
      slack[c] = size;
    } else if (!(std::fabs(more - row[c]) <= roundings * u * (size + slack[c]))) {
      return false;
    }
  }
  return full.count() > width;
}

}  // namespace ps
