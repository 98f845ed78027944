// Lists against scores: the subject's own where it shows them, the reference's else.
#include <algorithm>
#include <cmath>
#include <set>

#include "diff/sparse/check.h"
#include "diff/sparse/lists.h"

namespace ps {

namespace {

constexpr double kNearTie = 1e-4;  // spec sparse.md section 5

using Blocks = std::vector<std::int32_t>;

// The rule of a walk: forced blocks, then the best of the others, ties to the smaller index.
Blocks best(const SparseConfig& config, const double* scores, const PairMask& allowed,
            std::int64_t b, std::int64_t h, std::int64_t row) {
  Blocks out = forced_blocks(config, allowed, b, h, row, 0), others;
  for (std::int64_t j = 0; j < allowed.keys; ++j) {
    const auto block = static_cast<std::int32_t>(j);
    if (!allowed.at(b, h, row, j)) continue;
    if (!std::binary_search(out.begin(), out.end(), block)) others.push_back(block);
  }
  std::stable_sort(others.begin(), others.end(),
                   [&](std::int32_t x, std::int32_t y) { return scores[x] > scores[y]; });
  const auto want = static_cast<std::size_t>(expected_count(config, allowed, b, h, row, 0));
  for (std::size_t i = 0; out.size() < want && i < others.size(); ++i) out.push_back(others[i]);
  std::sort(out.begin(), out.end());
  return out;
}

// Whether rounding may have swapped the blocks in which two lists differ: by score, not by index.
bool near_tie(const double* scores, const Blocks& a, const Blocks& b) {
  double low = HUGE_VAL, high = -HUGE_VAL;
  const auto note = [&](const Blocks& from, const Blocks& other) {
    for (const std::int32_t j : from) {
      if (std::find(other.begin(), other.end(), j) != other.end()) continue;
      low = std::min(low, scores[j]), high = std::max(high, scores[j]);
    }
  };
  note(a, b);
  note(b, a);
  return high - low <= kNearTie * std::fabs(high);
}

std::string text_of(const Blocks& list) {
  std::string out = "[";
  for (const std::int32_t j : list) out += (out.size() > 1 ? "," : "") + std::to_string(j);
  return out + "]";
}

void check_degenerate(const SparseLayerCheck& c, const double* walk) {
  const SparseConfig& config = c.subject.config;
  const std::int64_t n = c.allowed.keys;
  const std::string at = c.point("walk");
  if (!config.causal || n < 4) return;
  for (std::int64_t b = 0; b < config.batch; ++b) {
    double mass = 0;
    std::int64_t rows = 0, choosing = 0;
    std::set<Blocks> picks;
    for (std::int64_t i = n / 2; i < n; ++i) {
      const double* r = walk + (b * n + i) * n;
      ++rows;
      mass += r[0];
      const Blocks forced = forced_blocks(config, c.allowed, b, 0, i, 0);
      Blocks free;
      for (const std::int32_t j : c.lists.at(b, 0, i)) {
        if (!std::binary_search(forced.begin(), forced.end(), j)) free.push_back(j);
      }
      std::int64_t open = 0;
      for (std::int64_t j = 0; j < n; ++j) open += c.allowed.at(b, 0, i, j) ? 1 : 0;
      if (static_cast<std::int64_t>(forced.size()) >= config.tau || open <= config.tau) continue;
      ++choosing;
      picks.insert(free);
    }
    mass /= static_cast<double>(rows);
    const SparseFindings::Evidence evidence = {
        {"absorbed_mass", json_number(mass)},
        {"distinct_selections", std::to_string(picks.size())}};
    if (mass > 0.9) {
      c.findings.add("SP020", at, {b, -1, -1, -1, 0},
                     "block 0 has absorbed the walk of the later rows", evidence);
    } else if (choosing > 2 && picks.size() == 1) {
      c.findings.add("SP020", at, {b, -1, -1, -1, -1}, "all later rows select the same blocks",
                     evidence);
    }
  }
}

}  // namespace

void check_selection(const SparseLayerCheck& c) {
  const SparseConfig& config = c.subject.config;
  const bool walk = config.selector == SparseSelector::kWalk;
  const std::int64_t n = c.allowed.keys, heads = walk ? 1 : config.heads;
  const Tensor& exact = walk ? c.truth.walk : c.truth.scores;
  std::vector<double> own(static_cast<std::size_t>(count_of(exact.shape())));
  to_doubles(exact.view(), own);
  const std::vector<double> truth = own;
  bool shown = false;
  const TensorView* given = c.subject.find(c.point(walk ? "walk" : "scores"));
  if (given != nullptr && static_cast<std::size_t>(given->count()) == own.size()) {
    to_doubles(*given, own);
    shown = true;
  }
  std::int64_t wrong = 0, ties = 0, differing = 0;
  SparsePlace first_wrong, first_tie;
  std::string example;
  for (std::int64_t b = 0; b < config.batch; ++b) {
    for (std::int64_t h = 0; h < config.heads; ++h) {
      for (std::int64_t i = 0; i < n; ++i) {
        const Blocks& list = c.lists.at(b, h, i);
        const Blocks& expected = c.truth.lists.at(b, h, i);
        const auto row = static_cast<std::size_t>(((b * heads + (walk ? 0 : h)) * n + i) * n);
        if (list == expected) {
          const auto margin = row_margin(config, truth.data() + row, list, c.allowed, b, h, i, 0);
          if (margin && *margin < kNearTie && ties++ == 0) first_tie = {b, h, i, -1, -1};
          continue;
        }
        ++differing;
        // Rows that break a rule are reported for that.
        BlockLists one(1, 1, 1);
        one.lists[0] = list;
        PairMask allowed(1, 1, 1, n);
        for (std::int64_t j = 0; j < n; ++j) {
          allowed.cells[static_cast<std::size_t>(j)] = c.allowed.at(b, h, i, j) ? 1 : 0;
        }
        SparseFindings broken;
        check_lists(config, one, allowed, i, "row", broken);
        if (broken.has_errors()) continue;
        const bool near = near_tie(truth.data() + row, list, expected);
        const bool by_own =
            shown && walk && list == best(config, own.data() + row, c.allowed, b, h, i);
        if (near) {
          if (ties++ == 0) first_tie = {b, h, i, -1, -1};
        } else if (!by_own ||
                   !(c.findings.has("SP020", c.point("walk")) || c.findings.has_errors())) {
          if (wrong++ == 0) {
            first_wrong = {b, h, i, -1, -1};
            example = "selected " + text_of(list) + ", the best are " + text_of(expected);
          }
        }
      }
    }
  }
  if (wrong > 0) {
    c.findings.unnamed("selection", c.point("selected"), first_wrong,
                       std::to_string(wrong) + (wrong == 1 ? " row does" : " rows do") +
                           " not select the blocks of greatest score: " + example,
                       {{"count", std::to_string(wrong)}});
  }
  if (ties > 0) {
    c.findings.add(
        "SP021", c.point("selected"), first_tie,
        std::to_string(ties) + (ties == 1 ? " row is" : " rows are") +
            " decided by less than 1e-4 of a score",
        {{"count", std::to_string(ties)}, {"rows_that_differ", std::to_string(differing)}});
  }
  if (!walk) return;
  // float64 certified by logarithms: where they disagree, underflow has chosen.
  const auto logs = c.truth.log_walk.view().as<double>();
  for (std::int64_t b = 0; b < config.batch; ++b) {
    for (std::int64_t i = 0; i < n; ++i) {
      const double* row = logs.data() + (b * n + i) * n;
      const Blocks certified = best(config, row, c.allowed, b, 0, i);
      const Blocks& taken = c.truth.lists.at(b, 0, i);
      const double* scores = truth.data() + (b * n + i) * n;
      if (certified != taken && !near_tie(scores, certified, taken)) {
        c.findings.add("SP020", c.point("selected"), {b, -1, i, -1, -1},
                       "float64 underflows here: in logarithms other blocks are the best");
      }
    }
  }
  check_degenerate(c, own.data());
}

}  // namespace ps
