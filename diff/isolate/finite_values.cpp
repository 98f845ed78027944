#include "diff/isolate/finite_values.h"

#include <algorithm>
#include <cmath>

namespace ps {

std::int64_t first_nonfinite(const TensorView& value) {
  if (!is_floating(value.dtype)) return -1;
  const std::int64_t n = value.count();
  for (std::int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(value_at(value, i))) return i;
  }
  return -1;
}

namespace {

Tensor cleaned(const TensorView& value) {
  Tensor out = Tensor::copy_of(value);
  const auto size = static_cast<std::size_t>(size_of(value.dtype));
  for (std::int64_t i = 0; i < value.count(); ++i) {
    if (std::isfinite(value_at(value, i))) continue;
    std::fill_n(out.bytes().data() + static_cast<std::size_t>(i) * size, size, std::byte{0});
  }
  return out;
}

}  // namespace

PointLookup FiniteValues::lookup() const {
  return [this](std::string_view name) -> std::optional<TensorView> {
    const std::optional<TensorView> value = given_(name);
    const bool weighed = name.ends_with(".v_proj") || name.ends_with(":v_cache");
    if (!value || !weighed || first_nonfinite(*value) < 0) return value;
    return kept_.insert_or_assign(std::string(name), cleaned(*value)).first->second.view();
  };
}

}  // namespace ps
