#include "diff/shard/loader_ledger.h"

#include <algorithm>
#include <set>

#include "core/same_bytes.h"
#include "diff/shard/families.h"

namespace ps {

namespace {

// Tables that a model computes anew, and a head that is the embedding again.
bool may_stay_unread(const std::string& name, const Plan& plan, const ShardModel& model) {
  if (name.ends_with("rotary_emb.inv_freq")) return true;
  if (name == plan.head && model.config.tie_word_embeddings) return true;
  if (plan.options.family == nullptr) return false;
  const auto& buffers = plan.options.family->buffers;
  return std::any_of(buffers.begin(), buffers.end(), [&](std::string_view ending) {
    return name.ends_with(ending) && name.find("query_key_value") == std::string::npos;
  });
}

Finding ledger_finding(const char* id, const std::string& name, std::string message) {
  Finding f;
  f.id = id;
  f.fault_class = "shard";
  f.point = name;
  f.message = std::move(message);
  return f;
}

}  // namespace

LoaderLedger loader_ledger(const Plan& plan, const ShardModel& model) {
  LoaderLedger out;
  std::set<std::string> wanted;
  for (const PlanRecord& record : plan.records) {
    if (count_of(record.shape) == 0) continue;
    for (const ShardPart& part : record.parts) wanted.insert(part.source);
  }
  if (model.checkpoint == nullptr) return out;
  for (const std::string& name : wanted) {
    if (model.checkpoint->peek(name) == nullptr) {
      out.missing.push_back(name);
    } else {
      ++out.read;
    }
  }
  for (const std::string& name : model.checkpoint->names()) {
    if (!wanted.contains(name) && !may_stay_unread(name, plan, model)) out.unread.push_back(name);
  }
  return out;
}

std::vector<Finding> ledger_findings_of(const Plan& plan, const ShardModel& model) {
  std::vector<Finding> out;
  if (model.checkpoint == nullptr) return out;
  const TensorView* head = model.checkpoint->peek(plan.head);
  const TensorView* rows = model.checkpoint->peek(plan.embedding);
  const bool tied = model.config.tie_word_embeddings && head != nullptr && rows != nullptr;
  if (tied && !same_bytes(*head, *rows)) {
    out.push_back(ledger_finding(
        "TP010", plan.head,
        "is not " + plan.embedding + ", although config.json ties the two (tie_word_embeddings)"));
  }
  const LoaderLedger ledger = loader_ledger(plan, model);
  for (const std::string& name : ledger.missing) {
    out.push_back(ledger_finding("TP007", name,
                                 "the checkpoint has no such tensor, and config.json asks for it: "
                                 "no rank can have loaded it"));
  }
  for (const std::string& name : ledger.unread) {
    out.push_back(ledger_finding(
        "weights-unexpected", name,
        "stands in the checkpoint, and no rank loads it: config.json knows of no such tensor"));
  }
  return out;
}

}  // namespace ps
