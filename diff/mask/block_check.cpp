// Block lists against the mask they are for: MK030 to MK034. Only what a kernel reads is judged:
// the first num entries of each row.
#include <algorithm>
#include <set>

#include "diff/mask/check.h"
#include "diff/mask/forms.h"

namespace ps::mask {

namespace {

struct Tally {
  const char* id;
  std::string message, fix;
  std::int64_t count = 0;
  std::string first;
  void add(const std::string& where) {
    if (count++ == 0) first = where;
  }
};

class Checker {
 public:
  Checker(const BlockLists& lists, const Mask& expected)
      : l_(lists), s_(summarize(expected, lists.bq, lists.bk)) {}

  std::vector<Finding> all(EdgeRule rule) {
    const auto full = entries(l_.full, "full", false),
               partial = entries(l_.partial, "partial", false);
    const std::int64_t planes = l_.dims.B * l_.dims.H;
    for (std::int64_t t = 0; t < planes * l_.nq * l_.nk; ++t) {
      const auto i = static_cast<std::size_t>(t);
      const bool in_full = full.contains(t), in_partial = partial.contains(t);
      const auto inside = static_cast<Fill>(s_.inbounds[i]);
      if (in_full && inside != Fill::kFull) false_cell_.add(where(t));
      if (!in_full && !in_partial && inside != Fill::kEmpty) missing_.add(where(t));
      if (in_full && in_partial) disorder_.add(where(t) + " in both lists");
      const bool edge_full =
          in_full && inside == Fill::kFull && static_cast<Fill>(s_.torch[i]) != Fill::kFull;
      if (rule == EdgeRule::kTorch && edge_full) edge_.add(where(t));
    }
    if (!l_.q_partial.num.empty() || !l_.q_full.num.empty()) {
      const auto q_full = entries(l_.q_full, "q_full", true),
                 q_partial = entries(l_.q_partial, "q_partial", true);
      for (const std::int64_t t : unlike(full, q_full)) sides_.add(where(t) + " (full)");
      for (const std::int64_t t : unlike(partial, q_partial)) sides_.add(where(t) + " (partial)");
    }
    std::vector<Finding> out;
    for (Tally* t : {&disorder_, &false_cell_, &missing_, &edge_, &sides_}) {
      if (t->count == 0) continue;
      Finding f = mask_finding(t->id, Severity::kError, t->first, t->message);
      f.evidence.emplace_back("count", std::to_string(t->count));
      f.fix = t->fix;
      out.push_back(std::move(f));
    }
    return out;
  }

 private:
  static std::vector<std::int64_t> unlike(const std::set<std::int64_t>& a,
                                          const std::set<std::int64_t>& b) {
    std::vector<std::int64_t> out;
    std::set_symmetric_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(out));
    return out;
  }
  std::string where(std::int64_t tile) const {
    const std::int64_t plane = tile / (l_.nq * l_.nk);
    return "batch=" + std::to_string(plane / l_.dims.H) +
           " head=" + std::to_string(plane % l_.dims.H) +
           " query block=" + std::to_string(tile / l_.nk % l_.nq) +
           " key block=" + std::to_string(tile % l_.nk);
  }
  // The tiles that a list names, as (plane*nq + row)*nk + column.
  std::set<std::int64_t> entries(const BlockList& list, const char* name, bool by_key) {
    std::set<std::int64_t> out;
    const std::int64_t rows = by_key ? l_.nk : l_.nq, columns = by_key ? l_.nq : l_.nk;
    for (std::size_t r = 0; r < list.num.size(); ++r) {
      const auto row = static_cast<std::int64_t>(r);
      const std::string at = std::string(name) + " list " + std::to_string(row);
      if (list.num[r] < 0 || list.num[r] > columns) {
        disorder_.add(at + ": " + std::to_string(list.num[r]) + " blocks of " +
                      std::to_string(columns));
        continue;
      }
      std::int64_t before = -1;
      for (std::int64_t n = 0; n < list.num[r]; ++n) {
        const std::int64_t c = list.indices[static_cast<std::size_t>(row * columns + n)];
        if (c <= before || c < 0 || c >= columns) {
          disorder_.add(at + ", entry " + std::to_string(n) + ": " + std::to_string(c));
        }
        before = c;
        if (c < 0 || c >= columns) continue;
        const std::int64_t plane = row / rows, fixed = row % rows;
        out.insert(by_key ? (plane * l_.nq + c) * l_.nk + fixed
                          : (plane * l_.nq + fixed) * l_.nk + c);
      }
    }
    return out;
  }

  const BlockLists& l_;
  const BlockSummary s_;
  Tally false_cell_{"MK030", "a FULL tile holds pairs that the mask forbids: they are attended",
                    "list the tile as partial", 0, ""};
  Tally missing_{"MK031", "a tile with allowed pairs is in no list: they are never computed",
                 "list the tile as partial or full", 0, ""};
  Tally disorder_{"MK032", "indices out of range, repeated or unsorted",
                  "ascending block numbers, each once, num of them", 0, ""};
  Tally edge_{"MK033", "an edge tile that reaches over the end is listed as FULL",
              "list it as partial, or mask the tail in the kernel", 0, ""};
  Tally sides_{"MK034", "the lists by key block and by query block name different tiles",
               "make one from the other", 0, ""};
};

}  // namespace

std::vector<Finding> check_block_lists(const BlockLists& lists, const Mask& expected,
                                       EdgeRule rule) {
  return Checker(lists, expected).all(rule);
}

}  // namespace ps::mask
