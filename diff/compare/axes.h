// The axes of a point by name: what a flat index means. Replica-major rows (row = replica * batch
// size + batch) are two axes. Points that the table does not have get axis0, axis1, ...
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace ps {

struct NamedAxis {
  std::string name;  // "replica", "batch", "head", "kv_head", "query", "key", "slot", "channel"
  std::int64_t size = 1;
};

// The sizes multiply to the shape's. `batch`: samples of the step; 0 = not known.
std::vector<NamedAxis> named_axes(std::string_view point, const Shape& shape, std::int64_t batch);
// The symbols of points.def: "R", "H", "S", "D"; empty for unknown names and other numbers of axes.
std::vector<std::string_view> axis_symbols(std::string_view point, const Shape& shape);

std::vector<std::int64_t> index_of(const std::vector<NamedAxis>& axes, std::int64_t flat);
// "replica=1 batch=0 head=3 query=7"; axes of size 1 are told too, but for replicas.
std::string place_of(const std::vector<NamedAxis>& axes, std::int64_t flat);

}  // namespace ps
