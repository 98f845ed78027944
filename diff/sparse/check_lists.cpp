#include <algorithm>

#include "diff/sparse/check.h"
#include "diff/sparse/lists.h"

namespace ps {

namespace {

SparsePlace place_of(const ListFault& f) { return {f.batch, f.head, f.row, -1, f.block}; }

std::string times(std::int64_t n, const char* one, const char* many) {
  return std::to_string(n) + " " + (n == 1 ? one : many);
}

// The rule of a row's length: fixed for a walk and for a budget, an upper bound for thresholds.
bool has_fixed_count(const SparseConfig& c) {
  return c.selector == SparseSelector::kWalk ||
         (c.gate == GateRule::kTokenBudget && !c.last_block_dense);
}

}  // namespace

void check_lists(const SparseConfig& config, const BlockLists& lists, const PairMask& allowed,
                 std::int64_t first, const std::string& point, SparseFindings& findings) {
  SparseConfig rule = config;
  if (rule.selector == SparseSelector::kGate && rule.gate == GateRule::kTokenBudget) {
    rule.tau = std::max<std::int64_t>(1, rule.token_budget / rule.block);
  }
  const ListFaults f = list_faults(rule, lists, allowed, first);
  const auto report = [&](const char* code, const ListFault& fault, const std::string& message) {
    if (fault.count == 0) return;
    findings.add(code, point, place_of(fault), message, {{"count", std::to_string(fault.count)}});
  };
  report("SP005", f.out_of_range,
         times(f.out_of_range.count, "index is", "indices are") + " outside [0, " +
             std::to_string(allowed.keys) + ")");
  report("SP002", f.future,
         times(f.future.count, "selected block lies", "selected blocks lie") +
             " after the query's own");
  report("SP002", f.disallowed,
         times(f.disallowed.count, "selected block holds", "selected blocks hold") +
             " no allowed pair");
  report("SP004", f.duplicates,
         times(f.duplicates.count, "block is", "blocks are") + " listed twice");
  report("SP004", f.unsorted, times(f.unsorted.count, "list does", "lists do") + " not ascend");
  report("SP003", f.missing_diagonal,
         times(f.missing_diagonal.count, "row lacks", "rows lack") + " the block on the diagonal");
  report(
      "SP007", f.missing_sink,
      times(f.missing_sink.count, "forced first block is", "forced first blocks are") + " missing");
  report("SP007", f.missing_local,
         times(f.missing_local.count, "forced neighbour block is", "forced neighbour blocks are") +
             " missing");
  if (has_fixed_count(rule)) {
    const ListFault& w = f.wrong_count;
    const std::int64_t wants =
        w.count == 0 ? 0 : expected_count(rule, allowed, w.batch, w.head, w.row, first);
    report("SP006", w,
           times(w.count, "row selects", "rows select") + " another number of blocks; the first " +
               "must have " + std::to_string(wants));
  }
}

void check_lost_queries(const PairMask& mask, const PairMask& chosen, const std::string& point,
                        SparseFindings& findings) {
  std::int64_t lost = 0;
  SparsePlace place;
  const auto any = [](const PairMask& m, std::int64_t b, std::int64_t h, std::int64_t i) {
    const std::uint8_t* row = m.cells.data() + m.row(b, h, i);
    return std::any_of(row, row + m.keys, [](std::uint8_t c) { return c != 0; });
  };
  for (std::int64_t b = 0; b < chosen.batch; ++b) {
    for (std::int64_t h = 0; h < chosen.heads; ++h) {
      for (std::int64_t i = 0; i < chosen.queries; ++i) {
        if (any(chosen, b, h, i) || !any(mask, b, h, i)) continue;
        if (lost++ == 0) place = {b, h, -1, i, -1};
      }
    }
  }
  if (lost == 0) return;
  findings.add(
      "SP001", point, place,
      times(lost, "query has", "queries have") + " allowed keys, and none in a selected block",
      {{"count", std::to_string(lost)}});
}

void check_layer_lists(const SparseLayerCheck& c) {
  const SparseConfig& config = c.subject.config;
  check_lists(config, c.lists, c.allowed, 0, c.point("selected"), c.findings);
  check_lost_queries(c.mask, c.chosen, c.point("selected"), c.findings);
  if (const TensorView* dense = c.subject.find(c.point("block_mask")); dense != nullptr) {
    const std::int64_t n = c.allowed.keys;
    const bool fits = dense->shape.size() == 4 && dense->shape[0] == config.batch &&
                      dense->shape[2] == n && dense->shape[3] == n &&
                      (dense->shape[1] == 1 || dense->shape[1] == config.heads) &&
                      size_of(dense->dtype) == 1;
    BlockLists theirs;
    bool same = fits;
    SparsePlace place;
    if (fits) {
      theirs = BlockLists(config.batch, dense->shape[1], n);
      for (std::size_t r = 0; r < theirs.lists.size(); ++r) {
        for (std::int64_t j = 0; j < n; ++j) {
          const auto at = r * static_cast<std::size_t>(n) + static_cast<std::size_t>(j);
          if (dense->bytes[at] == std::byte{0}) continue;
          theirs.lists[r].push_back(static_cast<std::int32_t>(j));
        }
      }
      for (std::int64_t b = 0; b < config.batch; ++b) {
        for (std::int64_t h = 0; h < config.heads; ++h) {
          for (std::int64_t i = 0; i < n; ++i) {
            auto list = c.lists.at(b, h, i);
            std::sort(list.begin(), list.end());
            list.erase(std::unique(list.begin(), list.end()), list.end());
            if (list == theirs.at(b, h, i)) continue;
            if (same) place = {b, h, i, -1, -1};
            same = false;
          }
        }
      }
    }
    if (!same) {
      if (fits) check_lists(config, theirs, c.allowed, 0, c.point("block_mask"), c.findings);
      c.findings.unnamed(
          "block-mask", c.point("block_mask"), place,
          fits ? "the dense form of the selection is not that of the lists"
               : "the block mask has another shape or type: " + to_string(dense->shape));
    }
  }
  const TensorView* bits = c.subject.find(c.point("token_mask_bits"));
  if (bits == nullptr) return;
  const auto theirs = pair_mask_of_bits(*bits, config.batch, config.heads, config.length,
                                        c.point("token_mask_bits"));
  if (!theirs.ok()) {
    c.findings.unnamed("token-mask", c.point("token_mask_bits"), {}, theirs.error().line());
    return;
  }
  std::int64_t leaked = 0, other = 0;
  SparsePlace leak, differs;
  for (std::int64_t b = 0; b < config.batch; ++b) {
    for (std::int64_t h = 0; h < config.heads; ++h) {
      for (std::int64_t i = 0; i < config.length; ++i) {
        for (std::int64_t j = 0; j < config.length; ++j) {
          const bool has = theirs->at(b, h, i, j);
          if (has == c.chosen.at(b, h, i, j)) continue;
          const SparsePlace here = {b, h, -1, i, j / config.block};
          if (has && !c.mask.at(b, h, i, j) && leaked++ == 0) leak = here;
          if (!(has && !c.mask.at(b, h, i, j)) && other++ == 0) differs = here;
        }
      }
    }
  }
  if (leaked > 0) {
    c.findings.add("SP008", c.point("token_mask_bits"), leak,
                   times(leaked, "pair is", "pairs are") + " attended that the token mask forbids",
                   {{"count", std::to_string(leaked)}});
  } else if (other > 0) {
    c.findings.unnamed("token-mask", c.point("token_mask_bits"), differs,
                       times(other, "pair differs", "pairs differ") +
                           " from the token mask inside the selected blocks");
  }
}

}  // namespace ps
