#include "diff/shard/rank_model.h"

#include <cstring>
#include <memory>

namespace ps {

namespace {

std::string dest_of(const std::string& name) {
  return name.starts_with("model.") ? name.substr(6) : name;
}

RankModel empty_model(const ModelConfig& config, const Plan& plan) {
  RankModel out;
  out.whole = config;
  out.local = rank_config(config, plan.share);
  out.tp = plan.share.tp;
  out.vocab_rows = plan.options.replicate_vocab ? config.vocab_size : plan.share.vocab;
  out.replicate_vocab = plan.options.replicate_vocab;
  return out;
}

Tensor rows_of(const Tensor& whole, std::int64_t begin, std::int64_t count) {
  Shape shape = whole.shape();
  const std::int64_t row = count_of(shape) / shape[0] * size_of(whole.dtype());
  shape[0] = count;
  Tensor out(whole.dtype(), std::move(shape));
  std::memcpy(out.bytes().data(), whole.view().bytes.data() + begin * row,
              static_cast<std::size_t>(count * row));
  return out;
}

// Where a part stands in its fused tensor: q, k, v and gate, up.
struct Piece {
  std::string fused;
  std::int64_t begin = 0, count = 0;
};
std::optional<Piece> piece_of(const std::string& dest, const ModelConfig& local) {
  const bool cross = dest.find(".cross_replica_attn.") != std::string::npos;
  const std::int64_t dim = cross ? local.cross_head_dim() : local.head_dim;
  const std::int64_t q = local.heads * dim, kv = local.kv_heads * dim;
  const std::int64_t inner = local.intermediate_size;
  struct Known {
    std::string_view part, whole;
    std::int64_t begin, count;
  };
  for (const Known& k :
       {Known{"q_proj", "qkv_proj", 0, q}, Known{"k_proj", "qkv_proj", q, kv},
        Known{"v_proj", "qkv_proj", q + kv, kv}, Known{"gate_proj", "gate_up_proj", 0, inner},
        Known{"up_proj", "gate_up_proj", inner, inner}}) {
    const std::size_t at = dest.find(std::string(".") + std::string(k.part));
    if (at == std::string::npos) continue;
    Piece out{dest, k.begin, k.count};
    out.fused.replace(at + 1, k.part.size(), k.whole);
    return out;
  }
  return std::nullopt;
}

}  // namespace

ModelConfig rank_config(const ModelConfig& config, const RankShare& share) {
  ModelConfig out = config;
  out.all_heads = config.heads;
  out.heads = share.heads;
  out.kv_heads = share.kv_heads;
  out.intermediate_size = share.intermediate;
  return out;
}

Result<RankModel> rank_model(const ModelConfig& config, std::int64_t tp,
                             const SourceLookup& sources, const PlanOptions& options) {
  PlanOptions unfused = options;
  unfused.fused = false;
  PS_TRY(Plan made, make_plan(config, tp, unfused));
  const auto plan = std::make_shared<const Plan>(std::move(made));
  RankModel out = empty_model(config, *plan);
  auto index =
      std::make_shared<std::map<std::pair<std::int64_t, std::string>, const PlanRecord*>>();
  for (const PlanRecord& r : plan->records) index->emplace(std::pair(r.rank, r.dest), &r);
  out.weight = [plan, index, sources](std::int64_t rank,
                                      const std::string& name) -> Result<Tensor> {
    const auto record = index->find({rank, dest_of(name)});
    if (record == index->end()) return bad_input(name, "is in no rank's plan");
    return build_shard(*record->second, sources);
  };
  return out;
}

RankModel rank_model_of(const ModelConfig& config, const Plan& plan, RankShards shards) {
  RankModel out = empty_model(config, plan);
  const auto kept = std::make_shared<const RankShards>(std::move(shards));
  out.weight = [kept, local = out.local](std::int64_t rank,
                                         const std::string& name) -> Result<Tensor> {
    const std::string dest = dest_of(name);
    const auto piece = piece_of(dest, local);
    const auto found = kept->find({rank, piece ? piece->fused : dest});
    if (found == kept->end()) {
      return bad_input(name, "rank " + std::to_string(rank) + " has no such shard");
    }
    const Tensor& whole = found->second;
    if (!piece) return whole;
    if (whole.shape().empty() || whole.shape()[0] < piece->begin + piece->count) {
      return bad_input(name, "the shard of rank " + std::to_string(rank) + " is too short", "",
                       to_string(whole.shape()));
    }
    return rows_of(whole, piece->begin, piece->count);
  };
  return out;
}

}  // namespace ps
