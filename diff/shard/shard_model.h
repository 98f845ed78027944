// A model directory as a plan sees it: sizes and layout, with or without weights. Also for models
// that nothing else here can run (Phi-3's fused tensors), and for configs that are illegal: those
// give their code.
#pragma once

#include <filesystem>
#include <memory>

#include "core/checkpoint.h"
#include "diff/shard/bytes.h"

namespace ps {

struct ShardModel {
  ModelConfig config;
  CheckpointLayout layout = CheckpointLayout::kSeparate;
  const Family* family = nullptr;          // whose names the file has; null: Llama's
  std::string root;                        // before them
  std::shared_ptr<Checkpoint> checkpoint;  // null: config.json stands alone
  std::vector<Rejection> rejected;         // not empty: `config` says nothing, and no plan exists

  SourceLookup sources() const;
  PlanOptions options() const;  // as the file stores its tensors
};

// Rejections at `tp` first: a rule of section 1.1 that config.json breaks is named by its code.
Result<ShardModel> open_shard_model(const std::filesystem::path& dir, std::int64_t tp);

}  // namespace ps
