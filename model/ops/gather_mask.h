// The token mask inside selected blocks, for slots as gather_blocks lays them: FULL tiles are true
// without a look, PARTIAL ones are read pair by pair, EMPTY ones show nothing. One block a query
// row.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

struct GatherMask {
  Global<const std::uint8_t, 4> mask;   // [row, head, query, token]
  Global<const std::int64_t, 1> index;  // [entry]
  Global<const std::uint8_t, 1> tile;   // [entry]: 0 PARTIAL, 1 FULL, 2 EMPTY
  Global<std::uint8_t, 4> out;          // [row, head, query, slot]
  std::int64_t size;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t query = block.index() % out.size(2);
    const std::int64_t head = block.index() / out.size(2) % out.size(1);
    const std::int64_t row = block.index() / out.size(2) / out.size(1);
    block.each(out.size(3), [&](Thread, std::int64_t s) {
      const std::int64_t token = block.load(index, s / size) * size + s % size;
      std::uint8_t value = 0;
      const std::uint8_t kind = block.load(tile, s / size);
      if (kind == 1) {
        value = 1;
      } else if (kind == 0 && token < mask.size(3)) {
        value = block.load(mask, row, head, query, token);
      }
      block.store(out, value, row, head, query, s);
    });
  }
};

void run_gather_mask(const OpCall& call, Launch& launch) {
  run_grid(GatherMask{call.in<std::uint8_t, 4>(0), call.in<std::int64_t, 1>(1),
                      call.in<std::uint8_t, 1>(2), call.out<std::uint8_t, 4>(3), call.integer(0)},
           call.size(3, 0) * call.size(3, 1) * call.size(3, 2), call, launch);
}

std::vector<OpCase> gather_mask_cases() {
  const auto fill = [](std::string_view operand, std::int64_t i, const Rng&) {
    if (operand == "index") return static_cast<double>((i * 2 + 4) % 5);
    if (operand == "tile") return i == 1 ? 1.0 : (i == 2 ? 2.0 : 0.0);
    return i % 3 == 0 ? 0.0 : 1.0;
  };
  return {{{{"row", 2}, {"head", 1}, {"query", 6}, {"token", 22}, {"entry", 3}, {"slot", 15}},
           {5},
           fill},
          {{{"row", 1}, {"head", 3}, {"query", 7}, {"token", 17}, {"entry", 2}, {"slot", 8}},
           {4},
           fill}};
}

void gather_mask_oracle(OracleCall& c) {
  const auto size = static_cast<std::int64_t>(c.scalars[0]);
  for (std::int64_t r = 0; r < c.size(3, 0); ++r) {
    for (std::int64_t h = 0; h < c.size(3, 1); ++h) {
      for (std::int64_t q = 0; q < c.size(3, 2); ++q) {
        for (std::int64_t s = 0; s < c.size(3, 3); ++s) {
          const std::int64_t token = static_cast<std::int64_t>(c.at(1, s / size)) * size + s % size;
          const bool seen = token < c.size(0, 3) && c.at(0, r, h, q, token) != 0;
          const double kind = c.at(2, s / size);
          c.at(3, r, h, q, s) = kind == 1 || (kind == 0 && seen) ? 1 : 0;
        }
      }
    }
  }
}

}  // namespace

const OpEntry& gather_mask() {
  static const OpEntry entry{
      .name = "gather_mask",
      .schema =
          "mask:bool[row,head,query,token] index:i64[entry] tile:bool[entry] "
          "out>bool[row,head,query,slot] | size",
      .run = run_gather_mask,
      .cases = gather_mask_cases,
      .oracle = gather_mask_oracle,
      .storage_roundings = 0,
      .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
