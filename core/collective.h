// One entry of a rank's ledger: what every rank must issue in the same order (tensor-parallel.md
// 3).
#pragma once

#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/tensor.h"

namespace ps {

struct Collective {
  std::string op;  // "all_reduce", "all_gather"
  Shape shape;
  DType dtype = DType::kF32;
  std::string tag;  // the point, or what else the program calls it

  bool operator==(const Collective&) const = default;
};

using Ledger = std::vector<Collective>;

// "all_reduce [2,7,128] float32 model.layers.0.mlp.down_proj"
std::string to_string(const Collective& entry);

}  // namespace ps
