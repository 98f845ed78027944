#include "diff/isolate/row_sample.h"

#include <algorithm>
#include <span>

#include "core/crc32.h"
#include "core/rng.h"

namespace ps {

namespace {

// One of each of `count` even parts, and both ends.
std::vector<std::int64_t> spread(std::int64_t length, std::int64_t count, std::uint64_t seed) {
  const Rng rng(seed, static_cast<std::uint64_t>(length));
  std::vector<std::int64_t> out = {0};
  const std::int64_t inner = count - 2;
  for (std::int64_t i = 0; i < inner; ++i) {
    const std::int64_t begin = 1 + (length - 2) * i / inner,
                       end = 1 + (length - 2) * (i + 1) / inner;
    out.push_back(begin +
                  rng.below(static_cast<std::uint64_t>(i), std::max<std::int64_t>(1, end - begin)));
  }
  out.push_back(length - 1);
  return out;
}

}  // namespace

std::optional<RowSample> RowSample::of(const OpInfo& op, const PointLookup& lookup,
                                       std::int64_t rows) {
  if (op.kind != "linear" || rows < 2) return std::nullopt;
  const std::optional<TensorView> value = lookup(op.point);
  if (!value || value->shape.size() != 3 || value->shape[1] <= rows) return std::nullopt;
  const std::int64_t length = value->shape[1];
  RowSample out;
  out.point_ = op.point;
  out.tokens_ = spread(length, rows, crc32_of(std::as_bytes(std::span(op.point))));
  out.values_.emplace(op.point, out.taken(*value));
  for (const std::string& name : op.inputs) {
    const std::optional<TensorView> input = lookup(name);
    const bool fits = input && input->shape.size() == 3 && input->shape[0] == value->shape[0] &&
                      input->shape[1] == length;
    if (!fits) return std::nullopt;
    out.values_.emplace(name, out.taken(*input));
  }
  return out;
}

PointLookup RowSample::lookup() const {
  return [this](std::string_view name) -> std::optional<TensorView> {
    const auto it = values_.find(name);
    return it == values_.end() ? std::nullopt : std::optional(it->second.view());
  };
}

std::optional<Tensor> RowSample::rows_of(const std::optional<Tensor>& ignored) const {
  if (!ignored || ignored->shape().size() != 3 || ignored->shape()[1] == 1) return ignored;
  return taken(ignored->view());
}

Tensor RowSample::taken(const TensorView& value) const {
  Tensor out(value.dtype, {value.shape[0], tokens(), value.shape[2]});
  const auto size = static_cast<std::size_t>(value.shape[2] * size_of(value.dtype));
  std::byte* to = out.bytes().data();
  for (std::int64_t r = 0; r < value.shape[0]; ++r) {
    for (const std::int64_t token : tokens_) {
      const auto row = static_cast<std::size_t>(r * value.shape[1] + token);
      to = std::copy_n(value.bytes.data() + row * size, size, to);
    }
  }
  return out;
}

}  // namespace ps
