// Every element of a checkpoint is read exactly as often as its kind says: that is what makes a
// plan right, whatever produced it.
#include <map>

#include "core/checkpoint.h"
#include "diff/shard/plan.h"

namespace ps {

namespace {

// How often a range of one axis is read, as counts at its indices.
struct Reads {
  std::int64_t dim = -1;  // -1: always whole
  std::vector<std::int64_t> count;
  std::int64_t wanted = 0;
  bool mixed = false;  // cut on two axes
};

std::int64_t reads_wanted(const PlanRecord& record, const ShardPart& part, const Plan& plan) {
  const bool kv = part.source.find("k_proj") != std::string::npos ||
                  part.source.find("v_proj") != std::string::npos;
  switch (record.kind) {
    case ShardKind::kReplicated:
    case ShardKind::kRowBias:
      return plan.share.tp;
    case ShardKind::kKvHeads:
      return plan.share.kv_replicas;
    case ShardKind::kQkv:
      return kv ? plan.share.kv_replicas : 1;
    case ShardKind::kVocab:
    case ShardKind::kMergedCol:
    case ShardKind::kRow:
      return 1;
  }
  return 1;
}

// k and v rows of a fused source are read kv_replicas times, its q rows once.
std::vector<std::int64_t> fused_wanted(const ModelConfig& config, const Plan& plan,
                                       std::size_t rows) {
  std::vector<std::int64_t> out(rows, 1);
  RankShare whole = rank_share(config, 1);
  const FusedRows all = fused_rows(config, whole, plan.options.layout, 0);
  for (const auto* ranges : {&all.k, &all.v}) {
    for (const RowRange& r : *ranges) {
      for (std::int64_t i = r.start; i < r.start + r.length; ++i) {
        out.at(static_cast<std::size_t>(i)) = plan.share.kv_replicas;
      }
    }
  }
  return out;
}

}  // namespace

std::vector<std::string> coverage_problems(const Plan& plan, const ModelConfig& config) {
  if (plan.options.family != nullptr) {
    // The rules are about Llama's names; a family's are the same tensors.
    PlanOptions options = plan.options;
    options.family = nullptr;
    const Result<Plan> renamed = make_plan(config, plan.share.tp, options);
    if (!renamed.ok()) return {renamed.error().line()};
    return coverage_problems(*renamed, config);
  }
  std::vector<std::string> problems;
  std::map<std::pair<std::string, std::string>, Reads> all;  // by source and destination
  for (const PlanRecord& record : plan.records) {
    for (const ShardPart& part : record.parts) {
      const Shape shape = source_shape(config, plan.options, part.source);
      if (shape.empty()) {
        problems.push_back(part.source + " is no tensor of this checkpoint");
        continue;
      }
      // A tied embedding serves two destinations, each of which covers it by itself.
      Reads& reads = all[{part.source, record.dest}];
      const std::int64_t dim = part.dim.value_or(-1);
      if (reads.count.empty()) {
        reads.dim = dim;
        reads.wanted = reads_wanted(record, part, plan);
        reads.count.assign(static_cast<std::size_t>(
                               shape[static_cast<std::size_t>(std::max<std::int64_t>(dim, 0))]),
                           0);
      }
      reads.mixed = reads.mixed || reads.dim != dim;
      const auto size = static_cast<std::int64_t>(reads.count.size());
      if (part.start < 0 || part.length < 0 || part.start + part.length > size) {
        problems.push_back(part.source + ": rank " + std::to_string(record.rank) +
                           " reads beyond its end");
        continue;
      }
      for (std::int64_t i = part.start; i < part.start + part.length; ++i) {
        ++reads.count[static_cast<std::size_t>(i)];
      }
    }
  }
  for (const auto& [key, reads] : all) {
    const bool fused = key.first.find(".qkv_proj.") != std::string::npos;
    const std::vector<std::int64_t> wanted =
        fused ? fused_wanted(config, plan, reads.count.size())
              : std::vector<std::int64_t>(reads.count.size(), reads.wanted);
    if (reads.mixed) problems.push_back(key.first + " is cut on two axes for " + key.second);
    if (fused && !plan.options.fused) continue;  // three destinations share it
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      if (reads.count[i] == wanted[i]) continue;
      problems.push_back(key.first + ": index " + std::to_string(i) + " of axis " +
                         std::to_string(std::max<std::int64_t>(reads.dim, 0)) + " is read " +
                         std::to_string(reads.count[i]) + " times for " + key.second + ", not " +
                         std::to_string(wanted[i]));
      break;
    }
  }
  if (plan.options.layout == CheckpointLayout::kSeparate) {
    for (const WeightSpec& spec : expected_weights(config)) {
      bool read = count_of(spec.shape) == 0;
      for (auto it = all.lower_bound({spec.name, ""}); it != all.end(); ++it) {
        if (it->first.first != spec.name) break;
        read = true;
      }
      if (!read) problems.push_back(spec.name + " is read by no rank");
    }
  }
  return problems;
}

}  // namespace ps
