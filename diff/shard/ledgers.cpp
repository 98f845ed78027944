#include "diff/shard/ledgers.h"

#include <algorithm>
#include <map>

namespace ps {

namespace {

// A rank and its list; one that most agree with, else rank 0's.
struct Voices {
  const StepLedger* odd = nullptr;
  const StepLedger* most = nullptr;
};

Voices voices_of(const std::vector<const StepLedger*>& ranks) {
  std::size_t best = 0;
  Voices out;
  for (const StepLedger* step : ranks) {
    const auto votes = static_cast<std::size_t>(
        std::count_if(ranks.begin(), ranks.end(),
                      [&](const StepLedger* other) { return other->issued == step->issued; }));
    if (votes <= best) continue;
    best = votes;
    out.most = step;
  }
  const auto odd = std::find_if(ranks.begin(), ranks.end(), [&](const StepLedger* step) {
    return step->issued != out.most->issued;
  });
  if (odd != ranks.end()) out.odd = *odd;
  return out;
}

Finding finding_of(const Voices& voices) {
  const Ledger &odd = voices.odd->issued, &most = voices.most->issued;
  const auto [a, b] = std::mismatch(odd.begin(), odd.end(), most.begin(), most.end());
  const auto at = static_cast<std::size_t>(a - odd.begin());
  const std::string found = a == odd.end() ? "nothing more" : to_string(*a);
  const std::string expected = b == most.end() ? "nothing more" : to_string(*b);
  Finding f;
  f.id = "TP015";
  f.fault_class = "shard";
  f.step = voices.odd->step;
  f.rank = voices.odd->rank;
  f.point = b != most.end() ? b->tag : a->tag;
  f.where = "collective " + std::to_string(at + 1) + " of the step";
  const std::string rank = std::to_string(f.rank), other = std::to_string(voices.most->rank);
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
  std::map<std::int64_t, std::vector<const StepLedger*>> steps;
  for (const StepLedger& ledger : ledgers) steps[ledger.step].push_back(&ledger);
  std::vector<Finding> out;
  for (const auto& [number, ranks] : steps) {
    const Voices voices = voices_of(ranks);
    if (voices.odd != nullptr) out.push_back(finding_of(voices));
  }
  return out;
}

}  // namespace ps
