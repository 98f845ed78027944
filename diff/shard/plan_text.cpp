#include "diff/shard/plan_text.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

namespace ps {

namespace {

using OrderedJson = nlohmann::ordered_json;

std::string source_text(const ShardPart& part) {
  const std::string source =
      part.source.starts_with("model.") ? part.source.substr(6) : part.source;
  return part.transposed ? source + "^T" : source;
}

std::string range_text(const ShardPart& part) {
  return std::to_string(part.start) + ":" + std::to_string(part.start + part.length);
}

// "name", "name[:, 0:12]", "a[0:6, 18:24] | b[0:6] + 2 zero rows": neighbours of one source share
// its brackets.
std::string parts_text(const PlanRecord& record) {
  std::string out;
  constexpr std::size_t kShown = 6;
  const std::size_t shown = std::min(record.parts.size(), kShown);
  for (std::size_t i = 0; i < shown; ++i) {
    const ShardPart& part = record.parts[i];
    if (i > 0) out += " | ";
    out += source_text(part);
    if (!part.dim) continue;
    out += *part.dim == 0 ? "[" : "[:, ";
    out += range_text(part);
    while (i + 1 < shown && record.parts[i + 1].source == part.source &&
           record.parts[i + 1].dim == part.dim && record.parts[i].pad == 0) {
      out += ", " + range_text(record.parts[++i]);
    }
    out += "]";
    const std::int64_t pad = record.parts[i].pad;
    if (pad > 0) out += " + " + std::to_string(pad) + " zero rows";
  }
  if (record.parts.size() > kShown) {
    out += " | ... " + std::to_string(record.parts.size() - kShown) + " more";
  }
  return out;
}

std::string padded(std::string text, std::size_t width) {
  text.resize(std::max(text.size() + 1, width), ' ');
  return text;
}

}  // namespace

std::string plan_json(const Plan& plan, const ModelConfig& config, const SourceLookup& sources) {
  const RankShare& s = plan.share;
  OrderedJson out;
  out["format"] = "parscope-shard-plan/1";
  out["tp"] = s.tp;
  out["layout"] = to_string(plan.options.layout);
  out["replicate_vocab"] = plan.options.replicate_vocab;
  out["vocab"] = config.vocab_size;
  out["padded_vocab"] = plan.options.replicate_vocab ? config.vocab_size : s.padded_vocab;
  out["heads_local"] = s.heads;
  out["kv_local"] = s.kv_heads;
  out["replicas"] = s.kv_replicas;
  out["intermediate_local"] = s.intermediate;
  out["records"] = OrderedJson::array();
  for (const PlanRecord& r : plan.records) {
    OrderedJson record = {{"rank", r.rank},
                          {"dest", r.dest},
                          {"kind", to_string(r.kind)},
                          {"shape", r.shape},
                          {"parts", OrderedJson::array()}};
    for (const ShardPart& p : r.parts) {
      record["parts"].push_back({{"src", p.source},
                                 {"dim", p.dim ? OrderedJson(*p.dim) : OrderedJson()},
                                 {"start", p.start},
                                 {"len", p.length},
                                 {"pad", p.pad}});
      if (p.transposed) record["parts"].back()["transposed"] = true;
    }
    const Result<std::uint32_t> crc = shard_crc(r, sources);
    record["crc32"] = crc.ok() ? OrderedJson(crc_text(crc.value())) : OrderedJson();
    out["records"].push_back(std::move(record));
  }
  return out.dump(1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

std::string plan_table(const Plan& plan, const ModelConfig& config, bool every_rank) {
  const RankShare& s = plan.share;
  std::string out = std::to_string(s.tp) + (s.tp == 1 ? " rank: " : " ranks, each: ") +
                    std::to_string(s.heads) + " of " + std::to_string(config.heads) +
                    " query heads, " + std::to_string(s.kv_heads) + " of " +
                    std::to_string(config.kv_heads) + " key/value heads";
  if (s.kv_replicas > 1) {
    out += " (each held by " + std::to_string(s.kv_replicas) + " neighbouring ranks)";
  }
  out += ", " + std::to_string(s.intermediate) + " of " + std::to_string(config.intermediate_size) +
         " inner features, ";
  if (plan.options.replicate_vocab) {
    out += "the whole vocabulary\n\n";
  } else {
    out +=
        std::to_string(s.vocab) + " rows of a vocabulary of " + std::to_string(config.vocab_size);
    if (s.padded_vocab > config.vocab_size) {
      out += " padded to " + std::to_string(s.padded_vocab);
    }
    out += "\n\n";
  }
  std::set<std::string> shown;
  for (const PlanRecord& r : plan.records) {
    // Layers are alike; the first shows them all, and a later one only what it has beside.
    const std::string pattern = layer_pattern(r.dest);
    const std::string key = every_rank ? std::to_string(r.rank) + pattern : pattern;
    if (!every_rank && r.rank != 0) break;
    if (!shown.insert(key).second) continue;
    out += padded("rank " + std::to_string(r.rank), 8) + padded(pattern, 44) +
           padded(std::string(to_string(r.kind)), 12) + padded(to_string(r.shape), 14) +
           parts_text(r) + "\n";
  }
  return out;
}

std::string rejection_json(std::int64_t tp, const std::vector<Rejection>& rejected) {
  OrderedJson out;
  out["format"] = "parscope-shard-plan/1";
  out["tp"] = tp;
  out["rejected"] = OrderedJson::array();
  for (const Rejection& r : rejected) {
    out["rejected"].push_back({{"code", r.code}, {"rule", r.rule}});
  }
  return out.dump(1) + "\n";
}

}  // namespace ps
