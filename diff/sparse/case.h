// A case of block-sparse attention, read from files: what it was run on (q, k, v, masks, the
// projection), how it was configured, and what an implementation made of it: lists, scores,
// outputs, gradients. Spec sparse.md section 10 names the tensors. A file that is not ours is read
// the same.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "core/safetensors.h"
#include "core/sparse.h"

namespace ps {

struct SparseDecodeStep {
  std::int64_t position = 0, block = 0;
  std::vector<BlockLists> selected;  // by layer; one row each; empty where nothing was said
};

struct SparseCase {
  struct Computed {
    std::shared_ptr<const Tensor> tensor;  // shared: copies of the case keep the view alive
    TensorView view;
  };
  std::string where;
  Json json;
  SparseConfig config;
  std::vector<SafetensorsFile> files;  // the last one that has a tensor is asked for it
  // Asked before any file: what was just computed.
  std::map<std::string, Computed> tensors;
  SparseWeights weights;
  std::vector<BlockLists> selected;  // by layer; empty where the layer is dense
  std::vector<SparseDecodeStep> decode;
  bool wants_gradients = false;

  const TensorView* find(const std::string& name) const;
  void set(const std::string& name, Tensor value);
  // Tokens [begin, end) of q, k or v of one layer: [B,heads,end-begin,D].
  Result<Tensor> tokens(const char* name, std::int64_t layer, std::int64_t begin,
                        std::int64_t end) const;
};

std::string layer_name(std::int64_t layer, const char* what);  // "layer3/out"

// Folders bring their case.json and data.safetensors, .safetensors files tensors, .json files
// members of the case; what comes later replaces what came before.
Result<SparseCase> open_sparse_case(const std::vector<std::filesystem::path>& paths);

// Lists [b][h][row][...] of a JSON value.
Result<BlockLists> lists_of_json(const Json& json, const std::string& where, std::int64_t batch,
                                 std::int64_t heads, std::int64_t rows);

}  // namespace ps
