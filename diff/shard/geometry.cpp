#include "diff/shard/geometry.h"

#include "core/result.h"

namespace ps {

namespace {

// "14 = 3*4 + 2"
std::string division(std::int64_t a, std::int64_t b) {
  return std::to_string(a) + " = " + std::to_string(a / b) + "*" + std::to_string(b) + " + " +
         std::to_string(a % b);
}

}  // namespace

HeadSizes head_sizes(const ModelConfig& config) {
  return {config.heads, config.kv_heads, config.head_dim, config.intermediate_size, false};
}

std::vector<Rejection> rejections(const HeadSizes& s, std::int64_t tp) {
  PS_CHECK(tp >= 1 && s.heads >= 1 && s.kv_heads >= 1, "sizes are positive");
  std::vector<Rejection> out;
  const std::string ranks = std::to_string(tp) + " ranks";
  if (s.heads % tp != 0) {
    out.push_back({"REJ_HEADS", std::to_string(s.heads) + " query heads cannot be dealt to " +
                                    ranks + " evenly: " + division(s.heads, tp)});
  }
  if (s.heads % s.kv_heads != 0) {
    out.push_back({"REJ_GROUP", std::to_string(s.heads) + " query heads do not share " +
                                    std::to_string(s.kv_heads) +
                                    " key/value heads evenly: " + division(s.heads, s.kv_heads)});
  }
  if (tp <= s.kv_heads && s.kv_heads % tp != 0) {
    out.push_back({"REJ_KV", std::to_string(s.kv_heads) + " key/value heads cannot be split over " +
                                 ranks + ": " + division(s.kv_heads, tp)});
  }
  if (tp > s.kv_heads && tp % s.kv_heads != 0) {
    out.push_back({"REJ_KV", ranks + " cannot each hold a copy of one of " +
                                 std::to_string(s.kv_heads) +
                                 " key/value heads: " + division(tp, s.kv_heads)});
  }
  if (s.intermediate % tp != 0) {
    out.push_back({"REJ_INTER", "intermediate size " + std::to_string(s.intermediate) +
                                    " cannot be split over " + ranks + ": " +
                                    division(s.intermediate, tp)});
  }
  if (s.head_dim % 2 != 0) {
    out.push_back({"REJ_HEADDIM",
                   "head size " + std::to_string(s.head_dim) + " is odd: RoPE rotates two halves"});
  }
  if (s.wide_qk_norm && tp > 1) {
    out.push_back(
        {"REJ_QKNORM_WIDE", "the norm of q or k goes over all heads, and no rank has them all"});
  }
  return out;
}

RankShare rank_share(const ModelConfig& config, std::int64_t tp, std::int64_t vocab_multiple) {
  PS_CHECK(rejections(head_sizes(config), tp).empty() && vocab_multiple >= 1,
           "only a legal tp has a share");
  RankShare out;
  out.tp = tp;
  out.heads = config.heads / tp;
  out.kv_heads = tp >= config.kv_heads ? 1 : config.kv_heads / tp;
  out.kv_replicas = tp >= config.kv_heads ? tp / config.kv_heads : 1;
  out.intermediate = config.intermediate_size / tp;
  const std::int64_t unit = vocab_multiple * tp;
  out.padded_vocab = (config.vocab_size + unit - 1) / unit * unit;
  out.vocab = out.padded_vocab / tp;
  return out;
}

}  // namespace ps
