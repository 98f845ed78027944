#include "diff/align/shape_match.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "diff/compare/axes.h"

namespace ps {

namespace {

Shape without_leading_ones(const Shape& shape) {
  const auto first =
      std::find_if(shape.begin(), shape.end(), [](std::int64_t n) { return n != 1; });
  return {first, shape.end()};
}

// One shape becomes the other by folding or unfolding neighbouring axes, and not by chance: between
// any two cuts that they share, one of the two has a single axis.
bool folds(const Shape& a, const Shape& b) {
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    std::int64_t x = a[i++], y = b[j++];
    std::size_t axes_a = 1, axes_b = 1;
    while (x != y) {
      if (x < y) {
        if (i == a.size()) return false;
        x *= a[i++];
        ++axes_a;
      } else {
        if (j == b.size()) return false;
        y *= b[j++];
        ++axes_b;
      }
    }
    if (axes_a > 1 && axes_b > 1) return false;
  }
  const auto all_ones = [](auto first, auto last) {
    return std::all_of(first, last, [](std::int64_t n) { return n == 1; });
  };
  return all_ones(a.begin() + static_cast<std::ptrdiff_t>(i), a.end()) &&
         all_ones(b.begin() + static_cast<std::ptrdiff_t>(j), b.end());
}

// out[index] = from[index with each axis read at stride]. Strides are in cells.
Tensor gather(const TensorView& from, const Shape& shape,
              const std::vector<std::int64_t>& strides) {
  Tensor out(from.dtype, shape);
  const auto size = static_cast<std::size_t>(size_of(from.dtype));
  const std::span<std::byte> to = out.bytes();
  std::vector<std::int64_t> at(shape.size(), 0);
  std::int64_t offset = 0;
  for (std::size_t cell = 0; cell * size < to.size(); ++cell) {
    std::memcpy(to.data() + cell * size,
                from.bytes.data() + static_cast<std::size_t>(offset) * size, size);
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      offset += strides[axis];
      if (++at[axis] < shape[axis]) break;
      offset -= strides[axis] * shape[axis];
      at[axis] = 0;
    }
  }
  return out;
}

std::vector<std::int64_t> strides_of(const Shape& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t step = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = step;
    step *= shape[axis];
  }
  return strides;
}

// Axes of which the table knows that one may stand for all: "1|R", "1|B|R"; on either side.
std::optional<ShapeMatch> repeated(std::string_view point, const TensorView& candidate,
                                   const TensorView& expected) {
  const std::vector<std::string_view> symbols = axis_symbols(point, expected.shape);
  if (symbols.empty() || candidate.shape.size() != expected.shape.size()) return std::nullopt;
  std::vector<std::int64_t> strides = strides_of(candidate.shape);
  std::vector<std::int64_t> other_strides = strides_of(expected.shape);
  Shape whole = expected.shape;
  std::string what;
  for (std::size_t axis = 0; axis < whole.size(); ++axis) {
    const std::int64_t own = candidate.shape[axis], other = expected.shape[axis];
    if (own == other) continue;
    const bool optional = symbols[axis].starts_with("1|") && symbols[axis] != "1|S";
    if (!optional || own == 0 || other == 0 || (own != 1 && other != 1)) return std::nullopt;
    whole[axis] = std::max(own, other);
    (own == 1 ? strides : other_strides)[axis] = 0;
    if (!what.empty()) what += ", ";
    what += "axis " + std::to_string(axis) + (own == 1 ? "" : " of the expected one") +
            " repeated " + std::to_string(whole[axis]) + " times";
  }
  ShapeMatch match;
  match.copy = gather(candidate, whole, strides);
  match.view = match.copy.view();
  match.expected = expected;
  if (whole != expected.shape) {
    match.expected_copy = gather(expected, whole, other_strides);
    match.expected = match.expected_copy.view();
  }
  match.what = what;
  return match;
}

std::optional<ShapeMatch> permuted(std::string_view point, const TensorView& candidate,
                                   const Shape& expected) {
  const std::size_t ndim = expected.size();
  if (axis_symbols(point, expected).empty() || candidate.shape.size() != ndim || ndim > 5) {
    return std::nullopt;
  }
  std::vector<std::size_t> order(ndim), found;
  std::iota(order.begin(), order.end(), std::size_t{0});
  do {
    bool fits = true;
    for (std::size_t axis = 0; axis < ndim; ++axis) {
      fits = fits && candidate.shape[order[axis]] == expected[axis];
    }
    if (!fits) continue;
    if (!found.empty()) return std::nullopt;  // two ways: nobody knows which
    found = order;
  } while (std::next_permutation(order.begin(), order.end()));
  if (found.empty()) return std::nullopt;
  const std::vector<std::int64_t> own = strides_of(candidate.shape);
  std::vector<std::int64_t> strides(ndim);
  std::string axes;
  for (std::size_t axis = 0; axis < ndim; ++axis) {
    strides[axis] = own[found[axis]];
    axes += (axes.empty() ? "" : ",") + std::to_string(found[axis]);
  }
  ShapeMatch match;
  match.copy = gather(candidate, expected, strides);
  match.view = match.copy.view();
  match.what = "axes taken in the order " + axes;
  return match;
}

Tensor last_of_axis_1(const TensorView& v) {
  const std::int64_t skipped = (v.shape[1] - 1) * v.shape[2];
  TensorView from = v;
  from.bytes = v.bytes.subspan(static_cast<std::size_t>(skipped * size_of(v.dtype)));
  return gather(from, {v.shape[0], 1, v.shape[2]}, strides_of(v.shape));
}

// One side has the logits of all positions and the other those of the last.
bool last_position(std::string_view point, const TensorView& candidate, const TensorView& expected,
                   ShapeMatch& match) {
  const std::vector<std::string_view> symbols = axis_symbols(point, expected.shape);
  if (symbols.size() != 3 || symbols[1] != "1|S" || candidate.shape.size() != 3) return false;
  const Shape &a = candidate.shape, &b = expected.shape;
  if (a[0] != b[0] || a[2] != b[2] || (a[1] != 1 && b[1] != 1) || a[1] == 0 || b[1] == 0) {
    return false;
  }
  if (a[1] == 1) {
    match.view = candidate;
    match.expected_copy = last_of_axis_1(expected);
    match.expected = match.expected_copy.view();
  } else {
    match.copy = last_of_axis_1(candidate);
    match.view = match.copy.view();
  }
  match.what = "the last position of " + std::to_string(std::max(a[1], b[1])) + " compared";
  return true;
}

}  // namespace

std::optional<ShapeMatch> match_shape(std::string_view point, const TensorView& candidate,
                                      const TensorView& expected) {
  ShapeMatch match;
  match.view = {candidate.dtype, expected.shape, candidate.bytes};
  match.expected = expected;
  if (candidate.shape == expected.shape) return match;
  const std::string shapes = to_string(candidate.shape) + " read as " + to_string(expected.shape);
  const bool same_count = candidate.count() == expected.count();
  if (same_count && without_leading_ones(candidate.shape) == without_leading_ones(expected.shape)) {
    match.what = shapes + ": leading axes of size 1";
    return match;
  }
  if (same_count && folds(candidate.shape, expected.shape)) {
    match.what = shapes + ": neighbouring axes folded";
    return match;
  }
  if (last_position(point, candidate, expected, match)) return match;
  std::optional<ShapeMatch> other = repeated(point, candidate, expected);
  if (!other && same_count) {
    other = permuted(point, candidate, expected.shape);
    if (other) other->expected = expected;
  }
  if (!other) return std::nullopt;
  other->what = shapes + ": " + other->what;
  return other;
}

}  // namespace ps
