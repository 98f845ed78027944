#include "diff/isolate/additive_mask.h"

#include <algorithm>
#include <cmath>

namespace ps {

std::optional<AdditiveMask> read_additive_mask(const TensorView& mask) {
  if (!is_floating(mask.dtype)) return std::nullopt;
  AdditiveMask out;
  out.allowed = Tensor(DType::kBool, mask.shape);
  const std::int64_t n = mask.count();
  bool other = false;
  for (std::int64_t i = 0; i < n; ++i) {
    const double v = value_at(mask, i);
    const bool hidden = v <= -1000.0;
    out.nan += std::isnan(v) ? 1 : 0;
    out.ones += v == 1.0 ? 1 : 0;
    out.minus_inf += std::isinf(v) && v < 0 ? 1 : 0;
    out.lowest += hidden && std::isfinite(v) ? 1 : 0;
    other = other || (v != 0.0 && v != 1.0);
    out.allowed.bytes()[static_cast<std::size_t>(i)] = static_cast<std::byte>(hidden ? 0 : 1);
  }
  if (!other && out.ones > 0) return std::nullopt;  // ones where it may attend
  const std::int64_t columns =
      mask.shape.empty() ? 1 : std::max<std::int64_t>(1, mask.shape.back());
  for (std::int64_t row = 0; row < n / columns; ++row) {
    std::int64_t hidden = 0, infinite = 0;
    for (std::int64_t c = 0; c < columns; ++c) {
      const double v = value_at(mask, row * columns + c);
      hidden += v <= -1000.0 ? 1 : 0;
      infinite += std::isinf(v) ? 1 : 0;
    }
    const bool mixed = out.lowest > 0 && infinite > 0;
    out.overflowed_row = out.overflowed_row || (mixed && hidden == columns);
  }
  return out;
}

bool AdditiveMask::broken() const {
  return nan > 0 || ones > 0 || minus_inf == allowed.view().count() || overflowed_row;
}

std::optional<Finding> additive_mask_finding(const OpInfo& op, const PointLookup& lookup) {
  if (op.kind != "mask" && op.kind != "mask_cross_kv") return std::nullopt;
  const std::optional<TensorView> captured = lookup(op.point);
  if (!captured) return std::nullopt;
  const std::optional<AdditiveMask> mask = read_additive_mask(*captured);
  if (!mask) return std::nullopt;
  const std::int64_t n = captured->count();
  Finding f;
  f.fault_class = "mask";
  f.point = op.point;
  f.evidence = {{"nan", std::to_string(mask->nan)},
                {"ones", std::to_string(mask->ones)},
                {"minus_infinity", std::to_string(mask->minus_inf)},
                {"finite_fill", std::to_string(mask->lowest)},
                {"cells", std::to_string(n)}};
  if (mask->nan > 0 || mask->minus_inf == n) {
    f.id = "mask-zero-times-neginf";
    f.message = mask->nan > 0
                    ? "the additive mask holds NaN where it may attend: 0 was multiplied by "
                      "minus infinity"
                    : "the additive mask is minus infinity everywhere";
    f.fix = "fill with where(), never multiply by infinity";
    return f;
  }
  if (mask->ones > 0) {
    f.id = "mask-prefix-columns-ones";
    f.message =
        "the additive mask holds 1 where it may attend: the weight of those keys grows by e";
    f.fix = "in an additive mask, what may be attended is 0";
    return f;
  }
  if (mask->overflowed_row) {
    f.id = "mask-finfo-min-summed";
    f.message =
        "two masks with the lowest number were added: cells that both hide overflow to minus "
        "infinity, and a row without a visible key can become NaN";
    f.fix = "combine masks before they become numbers (and), or take their minimum";
    return f;
  }
  return std::nullopt;
}

}  // namespace ps
