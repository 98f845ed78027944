// A checkpoint directory: config.json and weights (one safetensors file, or an index and shards),
// mapped and never copied. It keeps a ledger of what was read, so that "never read" can be said.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/result.h"
#include "core/safetensors.h"
#include "core/tensor.h"

namespace ps {

// A weight that a config asks for.
struct WeightSpec {
  std::string name;
  Shape shape;
};

// Every tensor that a checkpoint of this config holds (parscale.md section 2), in file order of a
// forward pass. A tied lm_head is not in it.
std::vector<WeightSpec> expected_weights(const ModelConfig& config);

struct CheckpointIssue {
  enum class Kind { kMissing, kUnexpected, kShape, kDType, kTiedDiffers };
  Kind kind;
  bool error = true;  // an unexpected tensor is a warning
  std::string tensor;
  std::string expected;  // "[96,64]"
  std::string found;
  std::string message;
};

class Checkpoint {
 public:
  // Weights of `dir`: model.safetensors, or model.safetensors.index.json and its shards, or the
  // only *.safetensors file there.
  static Result<std::shared_ptr<Checkpoint>> open(const std::filesystem::path& dir);

  // Tensors that somebody else holds: `kept` keeps them alive. A rank's shards are such a one.
  using Tensors = std::map<std::string, TensorView, std::less<>>;
  static std::shared_ptr<Checkpoint> of(Tensors tensors, std::shared_ptr<const void> kept);

  const TensorView* find(std::string_view name) const;  // null when absent; notes the read
  const TensorView* peek(std::string_view name) const;  // the same, without a note
  std::vector<std::string> names() const;               // sorted
  std::vector<std::string> never_read() const;          // sorted; after a run
  // Name, shape, and dtype against the config. lm_head of a tied model may be there if it is
  // bit-equal to the embedding. Empty = the checkpoint is right.
  std::vector<CheckpointIssue> compare(const ModelConfig& config) const;
  const std::filesystem::path& dir() const { return dir_; }

 private:
  std::filesystem::path dir_;
  std::vector<SafetensorsFile> files_;
  std::shared_ptr<const void> kept_;
  Tensors tensors_;
  mutable std::mutex mutex_;
  mutable std::set<std::string, std::less<>> read_;
};

// A model directory that is ready to run: config without broken rules, checkpoint without errors.
struct Model {
  ModelConfig config;
  std::shared_ptr<Checkpoint> checkpoint;
};
Result<Model> open_model(const std::filesystem::path& dir);

}  // namespace ps
