// Sums and maxima over a block. The order of addition is fixed (butterfly over warps, then over the
// warps' results), so a result depends on the number of threads and on nothing else.
// `scratch` is block.shared<T>(kWarp); every thread gets the result.
#pragma once

#include "model/block/block.h"

namespace ps {

struct Sum {
  template <class T>
  PS_HD T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  PS_HD float operator()(float a, float b) const { return a > b ? a : b; }
};

template <class Block, class T, class Shared, class Op>
PS_HD T block_reduce(Block& block, PerThread<Block, T>& part, Shared scratch, Op op, T identity) {
  block.warp_reduce(part, op);
  block.phase([&](Thread t) {
    if (t.lane() == 0) scratch[t.warp()] = part[t];
  });
  const int warps = block.threads() / kWarp;
  PerThread<Block, T> all(block);
  block.phase([&](Thread t) {
    if (t.lane() < warps) {
      all[t] = scratch[t.lane()];
    } else {
      all[t] = identity;
    }
  });
  block.warp_reduce(all, op);
  return block.uniform(all);
}

template <class Block, class Shared>
PS_HD float block_sum(Block& block, PerThread<Block, float>& part, Shared scratch) {
  return block_reduce(block, part, scratch, Sum{}, 0.f);
}

}  // namespace ps
