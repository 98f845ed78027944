// Where something is wrong: what N and Shift+N step through.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "viewer/app/session.h"

namespace ps::viewer {

struct Spot {
  std::int64_t step = 0, rank = 0;
  std::string point;
  std::string where;  // "head=3 query=7"; empty where only the point is known
};

// Points whose own op went wrong, and points that an error-finding names; in the report's order.
std::vector<Spot> spots_of(const Report& report);

// Where the worst, or the first wrong, cell of two tensors is, as a flat index; -1: nowhere. With
// `tolerance` bounds of diff's own bound (compare.h).
std::int64_t worst_cell(const TensorView& actual, const TensorView& expected);
std::int64_t first_wrong_cell(const TensorView& actual, const TensorView& expected,
                              std::int64_t layers);

}  // namespace ps::viewer
