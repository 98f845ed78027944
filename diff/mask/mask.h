// A mask of B x H planes as run lists. Planes that are equal by construction are one object, and
// set operations on shared planes are done once.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "core/result.h"
#include "diff/mask/bands.h"
#include "diff/mask/program.h"

namespace ps::mask {

using CellIndex = std::array<std::int64_t, 4>;  // b, h, i, j
using RowIndex = std::array<std::int64_t, 3>;   // b, h, i

class Mask {
 public:
  Mask() = default;
  explicit Mask(Dims dims) : dims_(dims) {
    planes_.resize(static_cast<std::size_t>(dims.B * dims.H));
  }

  const Dims& dims() const { return dims_; }
  const Bands& plane(std::int64_t b, std::int64_t h) const { return *planes_[index(b, h)]; }
  const std::shared_ptr<const Bands>& shared(std::int64_t b, std::int64_t h) const {
    return planes_[index(b, h)];
  }
  void set(std::int64_t b, std::int64_t h, std::shared_ptr<const Bands> plane) {
    planes_[index(b, h)] = std::move(plane);
  }
  bool at(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) const {
    return plane(b, h).at(i, j);
  }

  bool empty() const;
  std::int64_t count() const;
  std::optional<CellIndex> first() const;  // in (b,h,i,j) order
  std::int64_t empty_rows() const;
  std::optional<RowIndex> first_empty_row() const;
  std::size_t bytes() const;  // of all different planes

 private:
  std::size_t index(std::int64_t b, std::int64_t h) const {
    return static_cast<std::size_t>(b * dims_.H + h);
  }
  Dims dims_;
  std::vector<std::shared_ptr<const Bands>> planes_;
};

Mask combine(const Mask& a, const Mask& b, SetOp op);  // of the same Dims
Mask complement(const Mask& a);
Mask filled(const Dims& dims, bool value);
bool equal(const Mask& a, const Mask& b);
// Needs Q == KV.
Mask transposed(const Mask& a);

// The whole program, or one of its expressions. An Error where the mask is so irregular that its
// run lists would not fit (a checkerboard of 65,536 squared).
Result<Mask> evaluate(const Program& program, const Node& node);
inline Result<Mask> evaluate(const Program& program) { return evaluate(program, program.expr); }

// 8 cells a byte, least significant bit first, row-major [B,H,Q,KV].
std::vector<std::uint8_t> to_bits(const Mask& mask);
// `bit(i)` is cell i in the same order.
template <class Bit>
Mask mask_from_cells(const Dims& dims, const Bit& bit) {
  Mask out(dims);
  std::vector<Run> runs;
  std::int64_t at = 0;
  for (std::int64_t b = 0; b < dims.B; ++b) {
    for (std::int64_t h = 0; h < dims.H; ++h) {
      Bands plane(0);
      for (std::int64_t i = 0; i < dims.Q; ++i) {
        runs.clear();
        for (std::int64_t j = 0; j < dims.KV; ++j) {
          if (!bit(at++)) continue;
          if (!runs.empty() && runs.back().hi.base() == j) {
            runs.back().hi = Edge(j + 1, 0);
          } else {
            runs.push_back({Edge(j, 0), Edge(j + 1, 0)});
          }
        }
        plane.append(i + 1, runs);
      }
      out.set(b, h, std::make_shared<const Bands>(std::move(plane)));
    }
  }
  return out;
}

}  // namespace ps::mask
