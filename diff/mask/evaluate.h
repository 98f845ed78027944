// The exact meaning of a program, cell by cell: the plain recursion that every faster form (runs,
// tiles) is tested against. Nothing here is clever on purpose.
#pragma once

#include <cstdint>
#include <optional>

#include "diff/mask/program.h"

namespace ps::mask {

// One cell as an expression sees it: positions move under shift and remap, storage indices do not.
struct Cell {
  std::int64_t b = 0, h = 0;
  std::int64_t i = 0, j = 0;  // storage
  std::int64_t q = 0, k = 0;  // positions
};

bool allowed(const Program& program, const Node& node, const Cell& cell);
Cell cell_at(const Program& program, std::int64_t b, std::int64_t h, std::int64_t i,
             std::int64_t j);
inline bool allowed(const Program& program, std::int64_t b, std::int64_t h, std::int64_t i,
                    std::int64_t j) {
  return allowed(program, program.expr, cell_at(program, b, h, i, j));
}

// The number that a scalar stands for in batch b; empty when unbounded.
std::optional<std::int64_t> scalar_of(const Program& program, const Scalar& s, std::int64_t b);
// The row of a [1|B, n] (or [n]) array that belongs to batch b.
std::span<const std::int64_t> row_of(const Array& array, std::int64_t b);

inline const Array& array_of(const Program& program, int index) {
  return program.arrays[static_cast<std::size_t>(index)];
}
// Where the [rows, columns] part of a [1|B, 1|H, rows, columns] array for (b, h) begins.
std::size_t plane_of(const Array& array, std::int64_t b, std::int64_t h);

std::int64_t floor_div(std::int64_t a, std::int64_t b);  // b > 0

}  // namespace ps::mask
