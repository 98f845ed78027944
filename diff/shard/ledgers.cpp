#include "diff/shard/ledgers.h"

#include <algorithm>
#include <map>

#include "core/odd_one.h"

namespace ps {

namespace {

Finding finding_of(const StepLedger& one, const StepLedger& others) {
  const Ledger &odd = one.issued, &most = others.issued;
  const auto [a, b] = std::mismatch(odd.begin(), odd.end(), most.begin(), most.end());
  const auto at = static_cast<std::size_t>(a - odd.begin());
  const std::string found = a == odd.end() ? "nothing more" : to_string(*a);
  const std::string expected = b == most.end() ? "nothing more" : to_string(*b);
  Finding f;
  f.id = "TP015";
  f.fault_class = "shard";
  f.step = one.step;
  f.rank = one.rank;
  f.point = b != most.end() ? b->tag : a->tag;
  f.where = "collective " + std::to_string(at + 1) + " of the step";
  const std::string rank = std::to_string(f.rank), other = std::to_string(others.rank);
  f.message = "rank " + rank + " issues " + found + " where rank " + other + " issues " + expected;
  const bool shifted = a != odd.end() && b != most.end();
  if (shifted && b + 1 != most.end() && *(b + 1) == *a) {
    f.message += ": it leaves one out";
  } else if (shifted && a + 1 != odd.end() && *(a + 1) == *b) {
    f.message += ": it has one too many";
  } else if (shifted && a->tag == b->tag && a->op == b->op) {
    f.message += a->dtype != b->dtype ? ": the types differ" : ": the shapes differ";
  }
  f.fix = "every rank must issue the same collectives in the same order; on GPUs this hangs";
  f.evidence = {{"entries_of_rank", std::to_string(odd.size())},
                {"entries_of_others", std::to_string(most.size())}};
  return f;
}

}  // namespace

std::vector<Finding> ledger_findings(const std::vector<StepLedger>& ledgers) {
  struct Step {
    std::vector<const StepLedger*> ranks;
    std::vector<Ledger> issued;
  };
  std::map<std::int64_t, Step> steps;
  for (const StepLedger& ledger : ledgers) {
    steps[ledger.step].ranks.push_back(&ledger);
    steps[ledger.step].issued.push_back(ledger.issued);
  }
  std::vector<Finding> out;
  for (const auto& [number, step] : steps) {
    const std::optional<OddOne> odd = odd_one(step.issued);
    if (!odd) continue;
    out.push_back(finding_of(*step.ranks[static_cast<std::size_t>(odd->rank)],
                             *step.ranks[static_cast<std::size_t>(odd->other)]));
  }
  return out;
}

}  // namespace ps
