// Values of other shapes that mean the same.
#include <algorithm>
#include <cstring>

#include "diff/isolate/judge.h"

namespace ps {

Tensor rows_of_beams(const TensorView& cache, const std::vector<std::int64_t>& beam_idx,
                     std::int64_t replicas) {
  const std::int64_t batch = cache.shape[0] / replicas;
  const auto beams = static_cast<std::int64_t>(beam_idx.size());
  Shape shape = cache.shape;
  shape[0] = replicas * beams;
  Tensor out(cache.dtype, shape);
  const std::size_t row =
      cache.bytes.size() / static_cast<std::size_t>(std::max<std::int64_t>(1, cache.shape[0]));
  for (std::int64_t p = 0; p < replicas; ++p) {
    for (std::int64_t b = 0; b < beams; ++b) {
      const auto from = static_cast<std::size_t>(p * batch + beam_idx[static_cast<std::size_t>(b)]);
      if (from >= static_cast<std::size_t>(cache.shape[0])) continue;
      std::copy_n(cache.bytes.data() + from * row, row,
                  out.bytes().data() + static_cast<std::size_t>(p * beams + b) * row);
    }
  }
  return out;
}

std::optional<Tensor> broadcast_to(const TensorView& value, const Shape& shape,
                                   bool rows_of_samples) {
  Shape from = value.shape;
  while (from.size() > shape.size() && from.front() == 1) from.erase(from.begin());
  while (from.size() < shape.size()) from.insert(from.begin(), 1);
  if (from.size() != shape.size()) return std::nullopt;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    // Replica-major rows: row r is sample r mod B.
    const bool tiled = rows_of_samples && i == 0 && from[i] > 0 && shape[i] % from[i] == 0;
    if (from[i] != shape[i] && from[i] != 1 && !tiled) return std::nullopt;
  }
  Tensor out(value.dtype, shape);
  const auto size = static_cast<std::size_t>(size_of(value.dtype));
  const std::int64_t n = count_of(shape);
  for (std::int64_t i = 0; i < n; ++i) {
    std::int64_t rest = i, source = 0, stride = 1;
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      source += rest % shape[axis] % from[axis] * stride;
      rest /= shape[axis];
      stride *= from[axis];
    }
    std::memcpy(out.bytes().data() + static_cast<std::size_t>(i) * size,
                value.bytes.data() + static_cast<std::size_t>(source) * size, size);
  }
  return out;
}

Tensor last_token(const TensorView& value) {
  const std::int64_t batch = value.shape[0], length = value.shape[1];
  Tensor out(value.dtype, {batch, 1, value.shape[2]});
  const auto row = static_cast<std::size_t>(value.shape[2] * size_of(value.dtype));
  for (std::int64_t b = 0; b < batch; ++b) {
    std::copy_n(value.bytes.data() + static_cast<std::size_t>((b + 1) * length - 1) * row, row,
                out.bytes().data() + static_cast<std::size_t>(b) * row);
  }
  return out;
}

}  // namespace ps
