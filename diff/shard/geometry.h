// How heads, key/value heads, inner features and the vocabulary are dealt to tensor-parallel ranks
// (spec tensor-parallel.md section 1), and when they cannot be. Nothing is ever floor-divided.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"

namespace ps {

// What legality needs to know of a model; a config that parse_config would refuse has it too.
struct HeadSizes {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t intermediate = 0;
  bool wide_qk_norm = false;  // a norm over a whole q or k projection, which no rank has
};
HeadSizes head_sizes(const ModelConfig& config);

struct Rejection {
  std::string code;  // "REJ_HEADS"
  std::string rule;  // "14 query heads cannot be dealt to 4 ranks evenly: 14 = 3*4 + 2"
};

// Every broken rule of section 1.1, in its order; empty: legal.
std::vector<Rejection> rejections(const HeadSizes& sizes, std::int64_t tp);

// One rank's share. Key/value heads are either split (kv_replicas = 1) or copied to kv_replicas
// neighbouring ranks.
struct RankShare {
  std::int64_t tp = 1;
  std::int64_t heads = 0;     // query heads a rank
  std::int64_t kv_heads = 0;  // key/value heads a rank
  std::int64_t kv_replicas = 1;
  std::int64_t intermediate = 0;
  std::int64_t padded_vocab = 0;
  std::int64_t vocab = 0;  // rows a rank, padding included

  std::int64_t first_head(std::int64_t rank) const { return rank * heads; }
  std::int64_t first_kv_head(std::int64_t rank) const { return rank / kv_replicas * kv_heads; }
};
// `tp` must be legal. The vocabulary is padded to a multiple of vocab_multiple * tp.
RankShare rank_share(const ModelConfig& config, std::int64_t tp, std::int64_t vocab_multiple = 1);

}  // namespace ps
