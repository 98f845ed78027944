#include "diff/shard/vocabulary.h"

#include "diff/shard/families.h"

namespace ps {

void vocabulary_from(const ShardSet& shards, const ModelConfig& config, std::int64_t tp,
                     PlanOptions& options) {
  const auto find = [&](const std::string& name) {
    return shards.find(0, options.family ? family_tensor(*options.family, "", name) : name);
  };
  const TensorView* rows = find("embed_tokens.weight");
  if (rows == nullptr) rows = find("lm_head.weight");
  if (rows == nullptr || rows->shape.size() != 2) return;
  const std::int64_t n = rows->shape[0], vocab = config.vocab_size;
  if (n == (vocab + tp - 1) / tp) return;  // as planned
  if (n == vocab) {
    options.replicate_vocab = true;
    return;
  }
  for (const std::int64_t multiple : {2, 4, 8, 16, 32, 64, 128, 256, 512}) {
    // m * tp as Megatron pads, or to a multiple of m first and then to one of tp (vLLM).
    const std::int64_t whole = (vocab + multiple - 1) / multiple * multiple;
    const std::int64_t both = multiple * tp;
    if (n * tp == (vocab + both - 1) / both * both || n == (whole + tp - 1) / tp) {
      options.vocab_multiple = n;  // one multiple of n * tp
      return;
    }
  }
}

}  // namespace ps
