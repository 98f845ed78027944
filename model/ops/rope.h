// Rotation by halves: out = u cos + concat(-u2, u1) sin, u = concat(u1, u2). Tables with fewer rows
// serve every replica: row r reads table row r % rows.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S>
struct RotateHalves {
  Global<const S, 4> x;       // [row, head, token, dim], any strides
  Global<const S, 3> cosine;  // [table_row, token, dim]
  Global<const S, 3> sine;    // [table_row, token, dim]
  Global<S, 4> out;           // [row, head, token, dim]

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index() / x.size(2);
    const std::int64_t token = block.index() % x.size(2);
    const std::int64_t table = row % cosine.size(0);
    const std::int64_t half = x.size(3) / 2;
    block.each(x.size(3), [&](Thread, std::int64_t d) {
      const float c = block.load(cosine, table, token, d);
      const float s = block.load(sine, table, token, d);
      const std::int64_t partner = d < half ? d + half : d - half;
      const float sign = d < half ? -1.f : 1.f;
      for (std::int64_t head = 0; head < x.size(1); ++head) {
        const float turned = sign * block.load(x, row, head, token, partner);
        block.store(out, block.load(x, row, head, token, d) * c + turned * s, row, head, token, d);
      }
    });
  }
};

void run_rope(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    run_grid(
        RotateHalves<S>{call.in<S, 4>(0), call.in<S, 3>(1), call.in<S, 3>(2), call.out<S, 4>(3)},
        call.size(0, 0) * call.size(0, 2), call, launch);
  });
}

std::vector<OpCase> rope_cases() {
  return {{{{"row", 4}, {"head", 3}, {"token", 5}, {"dim", 12}, {"table_row", 1}}, {}, nullptr},
          {{{"row", 6}, {"head", 1}, {"token", 2}, {"dim", 34}, {"table_row", 3}}, {}, nullptr},
          {{{"row", 2}, {"head", 5}, {"token", 1}, {"dim", 2}, {"table_row", 2}}, {}, nullptr}};
}

void rope_oracle(OracleCall& c) {
  const std::int64_t half = c.size(0, 3) / 2;
  for (std::int64_t r = 0; r < c.size(0, 0); ++r) {
    for (std::int64_t h = 0; h < c.size(0, 1); ++h) {
      for (std::int64_t t = 0; t < c.size(0, 2); ++t) {
        const std::int64_t table = r % c.size(1, 0);
        for (std::int64_t j = 0; j < half; ++j) {
          const double first = c.at(0, r, h, t, j), second = c.at(0, r, h, t, j + half);
          c.at(3, r, h, t, j) = first * c.at(1, table, t, j) - second * c.at(2, table, t, j);
          c.at(3, r, h, t, j + half) =
              second * c.at(1, table, t, j + half) + first * c.at(2, table, t, j + half);
        }
      }
    }
  }
}

}  // namespace

const OpEntry& rope() {
  static const OpEntry entry{.name = "rope",
                             .schema =
                                 "x:S[row,head,token,dim] cos:S[table_row,token,dim] "
                                 "sin:S[table_row,token,dim] out>S[row,head,token,dim]",
                             .run = run_rope,
                             .cases = rope_cases,
                             .oracle = rope_oracle,
                             .storage_roundings = 1,
                             .float_roundings = 3};
  return entry;
}

}  // namespace ps::PS_BACKEND
