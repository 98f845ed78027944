#include "diff/view/attention_map.h"

#include <algorithm>
#include <cmath>

namespace ps::view {

bool classes_differ(double a, double e) {
  return std::isnan(a) != std::isnan(e) || std::isinf(a) != std::isinf(e) ||
         (std::isinf(a) && a != e);
}

namespace {

// Calls use(row, first cell) for every query's row of a 4-D tensor.
template <class Use>
void each_row(const TensorView& t, const Use& use) {
  if (t.shape.size() != 4) return;
  const std::int64_t keys = t.shape[3], rows = keys == 0 ? 0 : t.count() / keys;
  for (std::int64_t r = 0; r < rows; ++r) use(r, r * keys, keys);
}

}  // namespace

Thumbnail thumbnail(const TensorView& actual, const TensorView* expected, std::int64_t plane,
                    int most) {
  Thumbnail out;
  if (actual.shape.size() != 4) return out;
  const std::int64_t rows = actual.shape[2], columns = actual.shape[3];
  if (rows == 0 || columns == 0 || plane >= actual.shape[0] * actual.shape[1]) return out;
  if (expected != nullptr && expected->shape != actual.shape) expected = nullptr;
  out.height = static_cast<int>(std::min<std::int64_t>(rows, most));
  out.width = static_cast<int>(std::min<std::int64_t>(columns, most));
  const auto cells = static_cast<std::size_t>(out.width) * static_cast<std::size_t>(out.height);
  out.value.resize(cells);
  out.broken.resize(cells);
  if (expected != nullptr) out.error.resize(cells);
  const std::int64_t first = plane * rows * columns;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::size_t line =
        static_cast<std::size_t>(r * out.height / rows) * static_cast<std::size_t>(out.width);
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::size_t at = line + static_cast<std::size_t>(c * out.width / columns);
      const double a = value_at(actual, first + r * columns + c);
      if (std::isfinite(a)) {
        out.value[at] = std::max(out.value[at], static_cast<float>(std::fabs(a)));
      } else {
        out.broken[at] = std::max(out.broken[at], std::uint8_t{1});
      }
      if (expected == nullptr) continue;
      const double e = value_at(*expected, first + r * columns + c);
      if (classes_differ(a, e)) {
        out.broken[at] = 2;
      } else if (std::isfinite(a)) {
        out.error[at] = std::max(out.error[at], static_cast<float>(std::fabs(a - e)));
      }
    }
  }
  for (const float x : out.value) out.largest = std::max<double>(out.largest, x);
  for (const float x : out.error) out.worst = std::max<double>(out.worst, x);
  out.any_broken = std::any_of(out.broken.begin(), out.broken.end(), [](auto b) { return b != 0; });
  return out;
}

std::vector<float> entropies(const TensorView& probs) {
  std::vector<float> out;
  each_row(probs, [&](std::int64_t, std::int64_t first, std::int64_t keys) {
    double entropy = 0, sum = 0;
    std::int64_t attended = 0;
    bool broken = false;
    for (std::int64_t k = 0; k < keys; ++k) {
      const double p = value_at(probs, first + k);
      if (!std::isfinite(p) || p < 0) broken = true;
      if (!(p > 0)) continue;
      ++attended;
      sum += p;
      entropy -= p * std::log(p);
    }
    // Of the row made to add up to 1, so that one that does not has its entropy as well.
    if (sum > 0) entropy = entropy / sum + std::log(sum);
    const double most = std::log(static_cast<double>(std::max<std::int64_t>(attended, 2)));
    out.push_back(broken ? NAN : static_cast<float>(std::clamp(entropy / most, 0.0, 1.0)));
  });
  return out;
}

std::vector<float> sum_errors(const TensorView& probs) {
  std::vector<float> out;
  each_row(probs, [&](std::int64_t, std::int64_t first, std::int64_t keys) {
    double sum = 0;
    bool zeros = true;
    for (std::int64_t k = 0; k < keys; ++k) {
      const double p = value_at(probs, first + k);
      sum += p;
      zeros = zeros && p == 0;
    }
    out.push_back(zeros ? 0.0F : static_cast<float>(std::fabs(sum - 1)));
  });
  return out;
}

}  // namespace ps::view
