#include "diff/golden/sparse_candidates.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "diff/compare/closeness.h"
#include "diff/sparse/lists.h"
#include "diff/sparse/replay.h"

namespace ps {

namespace {

using Blocks = std::vector<std::int32_t>;

constexpr const char* kPublished = "published_prefill_rule";
constexpr const char* kPublishedOut = "published_rule/out_layer0_b0_h0";

// Top-tau of all columns by W, masked ones with their zeros among them; then block 0 in front and
// the last dropped.
Blocks published_row(const SparseConfig& c, const double* w, std::int64_t n) {
  Blocks order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return w[a] > w[b]; });
  order.resize(static_cast<std::size_t>(std::min(c.tau, n)));
  order.pop_back();
  order.insert(order.begin(), 0);
  return order;
}

Result<Blocks> corrupted(const std::string& rule, const CandidateBasis& basis, std::int64_t row) {
  const std::int64_t n = basis.allowed.keys;
  Blocks list = basis.lists.at(0, 0, row);
  if (rule == "reference") return list;
  if (rule == kPublished && !basis.transition.shape().empty()) {
    return published_row(basis.golden.config, basis.transition.view().as<double>().data() + row * n,
                         n);
  }
  if (rule == "duplicate_first") {
    if (!list.empty()) list.insert(list.begin(), list.front());
  } else if (rule == "diagonal_dropped") {
    std::erase(list, static_cast<std::int32_t>(row));
    if (list.empty()) list.push_back(0);
  } else if (rule == "next_block_added") {
    const auto next = static_cast<std::int32_t>(std::min(row + 1, n - 1));
    if (std::find(list.begin(), list.end(), next) == list.end()) list.push_back(next);
    std::sort(list.begin(), list.end());
  } else if (rule == "out_of_range") {
    list.push_back(static_cast<std::int32_t>(n));
  } else if (rule == "one_missing") {
    if (list.size() > 1) list.pop_back();
  } else {
    return bad_input("candidates", "no known rule made '" + rule + "'");
  }
  return list;
}

// Every count must be there; where something was found, so must its first row.
Result<void> same_counts(const Json& candidate, const ListFaults& faults,
                         const std::string& where) {
  const std::pair<const char*, const ListFault*> rows[] = {
      {"duplicates", &faults.duplicates},
      {"future", &faults.future},
      {"disallowed", &faults.disallowed},
      {"out_of_range", &faults.out_of_range},
      {"missing_diagonal", &faults.missing_diagonal},
      {"missing_sink", &faults.missing_sink},
      {"wrong_count", &faults.wrong_count},
      {"empty_rows", &faults.empty_rows}};
  const Json* counts = candidate.find("findings");
  const Json* first = candidate.find("first_row");
  if (counts == nullptr || first == nullptr) {
    return bad_input(where, "has no findings or first_row");
  }
  std::size_t with_first = 0;
  for (const auto& [name, fault] : rows) {
    const Json* count = counts->find(name);
    if (count == nullptr || !count->is(Json::Kind::kInteger) || count->integer != fault->count) {
      return bad_input(where + "/findings/" + name, "another count",
                       count == nullptr ? "nothing" : count->brief(), std::to_string(fault->count));
    }
    const Json* row = first->find(name);
    if (fault->count == 0) continue;
    ++with_first;
    if (row == nullptr || !row->is(Json::Kind::kInteger) || row->integer != fault->row) {
      return bad_input(where + "/first_row/" + name, "another row",
                       row == nullptr ? "nothing" : row->brief(), std::to_string(fault->row));
    }
  }
  if (counts->items.size() != std::size(rows) || first->items.size() != with_first) {
    return bad_input(where, "counts or first rows of something else");
  }
  return {};
}

// The published rule applies no mask and counts a block as often as it stands there.
Result<void> verify_published(const Json& candidate, const CandidateBasis& basis,
                              const BlockLists& lists, const std::string& where,
                              std::set<std::string>& seen) {
  const SparseConfig& c = basis.golden.config;
  const TensorView* stored = basis.golden.find(kPublishedOut);
  if (stored == nullptr) return bad_input(where, std::string("has no tensor ") + kPublishedOut);
  seen.insert(kPublishedOut);
  Tensor out(DType::kF64, {c.length, c.head_dim});
  const double scale = 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  for (std::int64_t i = 0; i < c.length; ++i) {
    std::vector<std::int64_t> keys;
    for (const std::int32_t j : lists.at(0, 0, i / c.block)) {
      for (std::int64_t t = j * c.block; t < std::min(c.length, (j + 1) * c.block); ++t) {
        keys.push_back(t);
      }
    }
    const std::vector<double> row = attend_row(basis.inputs, 0, 0, i, keys, 0, scale);
    std::copy(row.begin(), row.end(), out.as<double>().begin() + i * c.head_dim);
  }
  const Closeness close = compare(out.view(), *stored);
  if (!close.within(1e-12)) {
    return bad_input(kPublishedOut, "another value", "within 1e-12 of its scale",
                     cell_text(out.view(), *stored, close.worst));
  }
  double difference = 0, norm = 0;
  const auto mine = out.view().as<double>(), theirs = basis.out.view().as<double>();
  for (std::size_t i = 0; i < mine.size(); ++i) {
    difference += (mine[i] - theirs[i]) * (mine[i] - theirs[i]);
    norm += theirs[i] * theirs[i];
  }
  const double rel = std::sqrt(difference / norm);
  const Json* said = candidate.find("rel_l2_vs_reference_sparse");
  if (said != nullptr && std::fabs(said->number - rel) <= 1e-12 * rel) return {};
  return bad_input(where + "/rel_l2_vs_reference_sparse", "another value",
                   said == nullptr ? "nothing" : said->brief(), std::to_string(rel));
}

}  // namespace

Result<std::int64_t> verify_candidates(const CandidateBasis& basis, std::set<std::string>& seen) {
  const Json* all = basis.golden.json.find("candidates");
  if (all == nullptr || !all->is(Json::Kind::kArray) || all->items.empty()) {
    return bad_input(basis.golden.where, "has no candidates");
  }
  const std::int64_t rows = basis.lists.rows;
  std::set<std::string> rules;
  for (const Json& candidate : all->items) {
    const Json* name = candidate.find("name");
    const Json* stored = candidate.find("lists");
    const std::string rule = name == nullptr ? "" : name->text;
    const std::string where = basis.golden.where + "/candidates/" + rule;
    if (stored == nullptr || !rules.insert(rule).second) {
      return bad_input(where, "has no lists, or is there twice");
    }
    Json nested;  // [1][1][rows][...]
    nested.kind = Json::Kind::kArray;
    nested.items = {Json()};
    nested.items[0].kind = Json::Kind::kArray;
    nested.items[0].items = {*stored};
    PS_TRY(const BlockLists lists, lists_of_json(nested, where + "/lists", 1, 1, rows));
    for (std::int64_t i = 0; i < rows; ++i) {
      PS_TRY(const Blocks expected, corrupted(rule, basis, i));
      if (expected != lists.at(0, 0, i)) {
        return bad_input(where + "/lists/" + std::to_string(i), "is not what its rule makes");
      }
    }
    const ListFaults faults = list_faults(basis.golden.config, lists, basis.allowed, 0);
    PS_TRY_VOID(same_counts(candidate, faults, where));
    if (rule == kPublished) {
      PS_TRY_VOID(verify_published(candidate, basis, lists, where, seen));
    } else if (candidate.find("rel_l2_vs_reference_sparse") != nullptr) {
      return bad_input(where, "says how far an output is that nobody stored");
    }
  }
  if (!rules.contains("reference"))
    return bad_input(basis.golden.where, "no candidate 'reference'");
  return static_cast<std::int64_t>(all->items.size());
}

}  // namespace ps
