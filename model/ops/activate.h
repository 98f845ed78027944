// act(x), cell by cell: the aggregator's SiLU.
#pragma once

#include "model/block/activation.h"
#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

template <class S, Activation A>
struct Activate {
  Global<const S, 2> x;  // [row, col]
  Global<S, 2> out;      // [row, col]

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index();
    block.each(out.size(1), [&](Thread, std::int64_t c) {
      block.store(out, activated<A>(block.load(x, row, c)), row, c);
    });
  }
};

void run_activate(const OpCall& call, Launch& launch) {
  with_storage(call.arrays[0].dtype(), [&]<class S>(S) {
    with_activation(static_cast<Activation>(call.integer(0)), [&]<Activation A>() {
      run_grid(Activate<S, A>{call.in<S, 2>(0), call.out<S, 2>(1)}, call.size(0, 0), call, launch);
    });
  });
}

std::vector<OpCase> activate_cases() {
  const auto wide = [](std::string_view operand, std::int64_t i, const Rng& rng) {
    return operand == "x" ? 6.0 * rng.normal(static_cast<std::uint64_t>(i)) : NAN;
  };
  std::vector<OpCase> cases;
  for (int kind = 0; kind <= static_cast<int>(Activation::kQuickGelu); ++kind) {
    cases.push_back({{{"row", 3}, {"col", 65 + kind}}, {static_cast<double>(kind)}, wide});
  }
  cases.push_back({{{"row", 2}, {"col", 1}}, {0}, nullptr});
  return cases;
}

double activate_plain(double x, Activation kind) {
  switch (kind) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return 0.5 * x *
             (1 +
              std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * std::pow(x, 3))));
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kRelu2:
      return std::pow(std::max(x, 0.0), 2);
    case Activation::kQuickGelu:
      return x / (1 + std::exp(-1.702 * x));
  }
  return NAN;
}

void activate_oracle(OracleCall& c) {
  const auto kind = static_cast<Activation>(static_cast<int>(c.scalars[0]));
  for (std::int64_t r = 0; r < c.size(0, 0); ++r) {
    for (std::int64_t i = 0; i < c.size(0, 1); ++i) {
      c.at(1, r, i) = activate_plain(c.at(0, r, i), kind);
    }
  }
}

}  // namespace

const OpEntry& activate() {
  static const OpEntry entry{.name = "activate",
                             .schema = "x:S[row,col] out>S[row,col] | kind",
                             .run = run_activate,
                             .cases = activate_cases,
                             .oracle = activate_oracle,
                             .storage_roundings = 1,
                             .float_roundings = 8};
  return entry;
}

}  // namespace ps::PS_BACKEND
