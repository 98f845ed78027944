// Shards that some program wrote: a folder with a file (or a folder) a rank, or one file whose
// tensors begin with "tp4/rank0/" or "rank0/". Names are read with or without "model." in front.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/safetensors.h"

namespace ps {

struct ShardSet {
  std::vector<SafetensorsFile> files;  // keep the views alive
  // By rank: "layers.0.self_attn.qkv_proj.weight", "lm_head.weight".
  std::map<std::int64_t, std::map<std::string, TensorView>> ranks;

  void strip(std::string_view root);  // names without it, where they begin with it
  const TensorView* find(std::int64_t rank, const std::string& dest) const;
};

Result<ShardSet> open_shards(const std::filesystem::path& path);

// The rank that a file's or folder's name speaks of: "rank-00003", "mp_rank_03",
// "model-00004-of-00008" (counted from 1), "3"; -1 for none.
std::int64_t rank_in_name(const std::string& name);

}  // namespace ps
