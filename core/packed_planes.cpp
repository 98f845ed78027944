// Compiled with -O3: GCC 12 vectorises such loops from there on.
#include "core/packed_form.h"

namespace ps::packed {

namespace {

template <std::size_t kCell>
void split(const std::byte* __restrict cells, std::size_t count, std::byte* __restrict planes) {
  for (std::size_t k = 0; k < kCell; ++k) {
    for (std::size_t i = 0; i < count; ++i) planes[k * count + i] = cells[i * kCell + k];
  }
}

template <std::size_t kCell>
void join(const std::byte* __restrict planes, std::size_t count, std::byte* __restrict cells) {
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t k = 0; k < kCell; ++k) cells[i * kCell + k] = planes[k * count + i];
  }
}

}  // namespace

void split_planes(std::span<const std::byte> cells, std::int64_t cell,
                  std::span<std::byte> planes) {
  const std::size_t count = cells.size() / static_cast<std::size_t>(cell);
  if (cell == 2) split<2>(cells.data(), count, planes.data());
  if (cell == 4) split<4>(cells.data(), count, planes.data());
  if (cell == 8) split<8>(cells.data(), count, planes.data());
}

void join_planes(std::span<const std::byte> planes, std::int64_t cell, std::span<std::byte> cells) {
  const std::size_t count = cells.size() / static_cast<std::size_t>(cell);
  if (cell == 2) join<2>(planes.data(), count, cells.data());
  if (cell == 4) join<4>(planes.data(), count, cells.data());
  if (cell == 8) join<8>(planes.data(), count, cells.data());
}

}  // namespace ps::packed
