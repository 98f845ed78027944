#include "diff/compare/closeness.h"

#include <cmath>
#include <cstdio>

namespace ps {

bool Closeness::within(double tolerance) const {
  return same_shape && class_mismatches == 0 && max_abs <= tolerance * scale;
}

Closeness compare(const TensorView& actual, const TensorView& expected) {
  Closeness c;
  if (actual.shape != expected.shape) {
    c.same_shape = false;
    return c;
  }
  c.compared = expected.count();
  double error2 = 0, norm2 = 0;
  for (std::int64_t i = 0; i < c.compared; ++i) {
    const double a = value_at(actual, i), e = value_at(expected, i);
    if (std::isfinite(a) && std::isfinite(e)) {
      const double d = std::fabs(a - e);
      if (d > c.max_abs) {
        c.max_abs = d;
        if (c.class_mismatches == 0) c.worst = i;
      }
      c.scale = std::max(c.scale, std::fabs(e));
      error2 += d * d;
      norm2 += e * e;
    } else if (!(std::isnan(a) && std::isnan(e)) && a != e) {
      if (c.class_mismatches++ == 0) c.worst = i;
    }
  }
  if (error2 > 0) c.rel_l2 = norm2 > 0 ? std::sqrt(error2 / norm2) : HUGE_VAL;
  return c;
}

std::string index_text(const Shape& shape, std::int64_t index) {
  Shape at(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    at[axis] = index % shape[axis];
    index /= shape[axis];
  }
  return to_string(at);
}

std::string cell_text(const TensorView& actual, const TensorView& expected, std::int64_t index) {
  char numbers[96];
  std::snprintf(numbers, sizeof numbers, " is %.9g, expected %.9g", value_at(actual, index),
                value_at(expected, index));
  return index_text(expected.shape, index) + numbers;
}

}  // namespace ps
