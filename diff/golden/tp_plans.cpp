// A case's plans: plan.json to the last number and CRC, the tps that are no plan, stored shards.
#include <algorithm>
#include <cstring>
#include <map>

#include <nlohmann/json.hpp>

#include "diff/golden/tp_case.h"
#include "diff/shard/shard_set.h"

namespace ps {

namespace {

using Tree = nlohmann::json;

Result<Tree> plan_tree(const TpCase& c, const Plan& plan) {
  Tree out = Tree::array();
  for (const PlanRecord& r : plan.records) {
    Tree parts = Tree::array();
    for (const ShardPart& p : r.parts) {
      parts.push_back({p.source, p.dim ? Tree(*p.dim) : Tree(), p.start, p.length, p.pad});
    }
    PS_TRY(const std::uint32_t crc, shard_crc(r, c.sources()));
    out.push_back({r.rank, r.dest, r.shape, parts, crc_text(crc)});
  }
  return out;
}

// Records may stand in any order: a plan is a set.
Tree by_destination(const Tree& records) {
  Tree out = Tree::object();
  for (const Tree& r : records) {
    const bool good = r.is_array() && r.size() == 5 && r[0].is_number_integer() && r[1].is_string();
    const std::string key = good ? "rank " + r[0].dump() + " " + r[1].get<std::string>()
                                 : "unreadable " + r.dump().substr(0, 40);
    out[key + (out.contains(key) ? " again" : "")] = r;
  }
  return out;
}

Result<void> check_facts(const TpCase& c, std::int64_t tp, const RankShare& share) {
  const std::string key = std::to_string(tp);
  const Json* padded = c.json.find("padded_vocab");
  const Json* layout = c.json.find("kv_layout");
  const Json* vocab = padded != nullptr ? padded->find(key) : nullptr;
  const Json* kv = layout != nullptr ? layout->find(key) : nullptr;
  if (vocab == nullptr || vocab->integer != share.padded_vocab) {
    return bad_input("case.json/padded_vocab/" + key, "differs from the plan",
                     std::to_string(share.padded_vocab),
                     vocab == nullptr ? "nothing" : vocab->brief());
  }
  const Tree right = {{"kv_local", share.kv_heads}, {"replicas", share.kv_replicas}};
  const std::string wrong = first_difference(right.dump(), kv == nullptr ? "null" : kv->dump());
  if (!wrong.empty()) return bad_input("case.json/kv_layout/" + key + wrong, "differs");
  return {};
}

Result<void> check_stored_shards(const TpCase& c, const Plan& plan, std::int64_t& count) {
  PS_TRY(const SafetensorsFile file, SafetensorsFile::open(c.dir / "shards.safetensors"));
  std::map<std::string, const PlanRecord*> wanted;
  for (const PlanRecord& r : plan.records) {
    wanted["tp" + std::to_string(c.tp_full) + "/rank" + std::to_string(r.rank) + "/" + r.dest] = &r;
  }
  for (const auto& entry : file.entries()) {
    const auto found = wanted.find(entry.name);
    if (found == wanted.end()) {
      return bad_input("shards.safetensors/" + entry.name, "is in no plan of tp_full");
    }
    const PlanRecord& record = *found->second;
    PS_TRY(const Tensor built, build_shard(record, c.sources()));
    const TensorView view = built.view();
    if (entry.view.shape != view.shape || entry.view.dtype != view.dtype) {
      return bad_input("shards.safetensors/" + entry.name, "has another shape or type",
                       to_string(view.shape), to_string(entry.view.shape));
    }
    if (std::memcmp(view.bytes.data(), entry.view.bytes.data(), view.bytes.size()) != 0) {
      std::int64_t i = 0;
      while (std::memcmp(view.bytes.data() + 4 * i, entry.view.bytes.data() + 4 * i, 4) == 0) ++i;
      return bad_input("shards.safetensors/" + entry.name,
                       "element " + std::to_string(i) + " is not the weight's, bit for bit",
                       std::to_string(value_at(view, i)), std::to_string(value_at(entry.view, i)));
    }
    wanted.erase(found);
    ++count;
  }
  // What is cut must be there, or the weights cannot be put together again.
  for (const auto& [name, record] : wanted) {
    if (record->kind != ShardKind::kReplicated) {
      return bad_input("shards.safetensors", "lacks " + name);
    }
  }
  return {};
}

}  // namespace

Result<std::string> check_tp_plans(const TpCase& c) {
  PS_TRY(const Json json, read_json_file(c.dir / "plan.json"));
  const Tree stored = Tree::parse(json.dump(), nullptr, false);
  if (!stored.is_object() || stored.size() != c.tps.size()) {
    return bad_input("plan.json", "does not hold a plan for each of tps",
                     std::to_string(c.tps.size()), std::to_string(stored.size()));
  }
  std::int64_t records = 0, shards = 0;
  for (const std::int64_t tp : c.tps) {
    const std::string key = std::to_string(tp);
    PS_TRY(const Plan plan, make_plan(c.config, tp, {}));
    const auto problems = coverage_problems(plan, c.config);
    if (!problems.empty()) return bad_input("tp " + key, problems[0]);
    PS_TRY(const Tree mine, plan_tree(c, plan));
    if (!stored.contains(key)) return bad_input("plan.json", "has no plan for tp " + key);
    const std::string wrong =
        first_difference(by_destination(mine).dump(), by_destination(stored[key]).dump());
    if (!wrong.empty()) return bad_input("plan.json/" + key + wrong, "differs from the plan");
    PS_TRY_VOID(check_facts(c, tp, plan.share));
    if (tp == c.tp_full) PS_TRY_VOID(check_stored_shards(c, plan, shards));
    records += static_cast<std::int64_t>(plan.records.size());
  }
  std::string out = std::to_string(c.tps.size()) + " plans with " + std::to_string(records) +
                    " CRCs, " + std::to_string(shards) + " shards bitwise";
  for (const std::int64_t tp : c.rejected) {
    const auto wrong = rejections(head_sizes(c.config), tp);
    if (wrong.empty()) {
      return bad_input("case.json/rejected_tps", "tp " + std::to_string(tp) + " is legal");
    }
    out += ", tp " + std::to_string(tp) + " " + wrong[0].code;
  }
  return out;
}

}  // namespace ps
