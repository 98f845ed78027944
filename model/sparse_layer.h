// What block-sparse layers of a model need beside the others: the projections that select, and what
// a step keeps from layer to layer.
#pragma once

#include <vector>

#include "core/checkpoint.h"
#include "core/sparse_attention.h"
#include "model/backend.h"

namespace ps {

struct SparseModel {
  SparseAttention attention;
  Array sketch;  // f32 [r, D]; walk
  std::vector<Array> gate_q,
      gate_k;  // f32 [H, C, g] and [H, g, C] a layer, empty where dense; gate
};

// Nothing where the config's attention is dense. Memory that it takes goes to `owned`.
Result<std::optional<SparseModel>> load_sparse_model(const Model& model, Backend& backend,
                                                     std::vector<void*>& owned);

// Of one step.
struct SparseStep {
  std::int64_t blocks = 0, first = 0, rows = 0;  // of keys; the first that holds new tokens; of new
  bool decode = false;
  std::vector<std::uint8_t> open;             // [row, block, block]: has an allowed pair
  Array allowed;                              // the same, on the device
  Array key_valid, query_valid, fresh_valid;  // bool [row, key], [row, key], [row, token]
  Array ones;                                 // bool [row, token]
  std::vector<Array> transitions, walks;      // f32 [row, block, block] a layer; walk
};

}  // namespace ps
