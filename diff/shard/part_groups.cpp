#include "diff/shard/part_groups.h"

#include <algorithm>

namespace ps {

std::string short_name(const std::string& name) {
  for (const char* known :
       {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "prefix_k", "prefix_v"}) {
    if (name.find(known) != std::string::npos) return known;
  }
  return name;
}

std::vector<PartGroup> groups_of(const ShardQuestion& q) {
  const std::vector<ShardPart>& parts = q.record->parts;
  const bool one_source = std::all_of(
      parts.begin(), parts.end(), [&](const ShardPart& p) { return p.source == parts[0].source; });
  std::vector<PartGroup> out;
  if (!one_source || q.record->kind != ShardKind::kQkv) {
    if (parts.size() > 3) return {};
    for (const ShardPart& part : parts) out.push_back({short_name(part.source), {part}});
    if (one_source && parts.size() == 2) out[0].name = "gate", out[1].name = "up";
    return out;
  }
  const FusedRows rows =
      fused_rows(*q.config, q.plan->share, q.plan->options.layout, q.record->rank);
  if (rows.q.size() + rows.k.size() + rows.v.size() != parts.size()) return {};
  std::size_t at = 0;
  for (const auto& [name, ranges] :
       {std::pair("q", &rows.q), std::pair("k", &rows.k), std::pair("v", &rows.v)}) {
    const auto begin = parts.begin() + static_cast<std::ptrdiff_t>(at);
    out.push_back({name, {begin, begin + static_cast<std::ptrdiff_t>(ranges->size())}});
    at += ranges->size();
  }
  return out;
}

std::vector<ShardPart> with_kv_head(const ShardQuestion& q, std::int64_t head) {
  const RankShare& s = q.plan->share;
  std::vector<PartGroup> groups = groups_of(q);
  if (groups.size() != 3) return {};
  const FusedRows rows =
      fused_rows(*q.config, s, q.plan->options.layout, head * s.kv_replicas / s.kv_heads);
  std::vector<ShardPart> out = groups[0].parts;
  for (const auto* ranges : {&rows.k, &rows.v}) {
    for (const RowRange& range : *ranges) {
      ShardPart part = q.record->parts[0];
      part.start = range.start;
      part.length = range.length;
      out.push_back(std::move(part));
    }
  }
  return out;
}

}  // namespace ps
