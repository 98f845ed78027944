// Tables of the replica RoPE: position = replica index, angles interleaved (a0, a0, a1, a1, ...),
// as upstream computes them (parscale.md 5). They stay float in every run.
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

struct ReplicaRopeTables {
  Global<const float, 1> inv_freq;  // [half]
  Global<float, 3> cosine;          // [sample, replica, dim]
  Global<float, 3> sine;            // [sample, replica, dim]

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t sample = block.index() / cosine.size(1);
    const std::int64_t replica = block.index() % cosine.size(1);
    block.each(cosine.size(2), [&](Thread, std::int64_t d) {
      const auto frequency = static_cast<double>(block.load(inv_freq, d / 2));
      const SineCosine value = sine_cosine(static_cast<double>(replica) * frequency);
      block.store(cosine, static_cast<float>(value.cosine), sample, replica, d);
      block.store(sine, static_cast<float>(value.sine), sample, replica, d);
    });
  }
};

void run_replica_rope_tables(const OpCall& call, Launch& launch) {
  run_grid(ReplicaRopeTables{call.in<float, 1>(0), call.out<float, 3>(1), call.out<float, 3>(2)},
           call.size(1, 0) * call.size(1, 1), call, launch);
}

std::vector<OpCase> replica_rope_tables_cases() {
  const auto fill = [](std::string_view, std::int64_t i, const Rng&) {
    return static_cast<double>(static_cast<float>(std::pow(1e4, -static_cast<double>(i) / 5.0)));
  };
  return {{{{"half", 5}, {"sample", 2}, {"replica", 3}, {"dim", 10}}, {}, fill},
          {{{"half", 33}, {"sample", 1}, {"replica", 4}, {"dim", 66}}, {}, fill}};
}

void replica_rope_tables_oracle(OracleCall& c) {
  for (std::int64_t i = 0; i < c.size(1, 0); ++i) {
    for (std::int64_t p = 0; p < c.size(1, 1); ++p) {
      for (std::int64_t j = 0; j < c.size(0, 0); ++j) {
        const double angle = static_cast<double>(p) * c.at(0, j);
        for (const std::int64_t d : {2 * j, 2 * j + 1}) {
          c.at(1, i, p, d) = std::cos(angle);
          c.at(2, i, p, d) = std::sin(angle);
        }
      }
    }
  }
}

}  // namespace

const OpEntry& replica_rope_tables() {
  static const OpEntry entry{
      .name = "replica_rope_tables",
      .schema = "inv_freq:f32[half] cos>f32[sample,replica,dim] sin>f32[sample,replica,dim]",
      .run = run_replica_rope_tables,
      .cases = replica_rope_tables_cases,
      .oracle = replica_rope_tables_oracle,
      .storage_roundings = 0,
      .float_roundings = 2};
  return entry;
}

}  // namespace ps::PS_BACKEND
