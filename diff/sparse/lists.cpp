#include "diff/sparse/lists.h"

#include <algorithm>

namespace ps {

void ListFault::add(std::int64_t n, std::int64_t b, std::int64_t h, std::int64_t i,
                    std::int32_t j) {
  if (n == 0) return;
  if (count == 0) batch = b, head = h, row = i, block = j;
  count += n;
}

namespace {

using Blocks = std::vector<std::int32_t>;

bool has(const Blocks& sorted, std::int64_t j) {
  return std::binary_search(sorted.begin(), sorted.end(), static_cast<std::int32_t>(j));
}

std::int64_t allowed_count(const PairMask& allowed, std::int64_t b, std::int64_t h,
                           std::int64_t row) {
  std::int64_t n = 0;
  for (std::int64_t j = 0; j < allowed.keys; ++j) n += allowed.at(b, h, row, j) ? 1 : 0;
  return n;
}

}  // namespace

SparseConfig decode_rules(const SparseConfig& config) {
  SparseConfig out = config;
  if (out.selector == SparseSelector::kGate) out.locals = std::max<std::int64_t>(1, out.locals);
  return out;
}

Blocks forced_blocks(const SparseConfig& config, const PairMask& allowed, std::int64_t b,
                     std::int64_t h, std::int64_t row, std::int64_t first) {
  Blocks out;
  const std::int64_t own = first + row;
  for (std::int64_t j = 0; j < allowed.keys; ++j) {
    const bool wanted = j < config.sinks || (own - config.locals < j && j <= own);
    if (wanted && allowed.at(b, h, row, j)) out.push_back(static_cast<std::int32_t>(j));
  }
  return out;
}

std::int64_t expected_count(const SparseConfig& config, const PairMask& allowed, std::int64_t b,
                            std::int64_t h, std::int64_t row, std::int64_t first) {
  const auto forced =
      static_cast<std::int64_t>(forced_blocks(config, allowed, b, h, row, first).size());
  return std::min(std::max(config.tau, forced), allowed_count(allowed, b, h, row));
}

ListFaults list_faults(const SparseConfig& config, const BlockLists& lists, const PairMask& allowed,
                       std::int64_t first) {
  ListFaults out;
  const std::int64_t n = allowed.keys;
  for (std::int64_t b = 0; b < lists.batch; ++b) {
    for (std::int64_t h = 0; h < lists.heads; ++h) {
      for (std::int64_t i = 0; i < lists.rows; ++i) {
        const Blocks& list = lists.at(b, h, i);
        const std::int64_t own = first + i;
        Blocks distinct = list;
        std::sort(distinct.begin(), distinct.end());
        if (distinct != list) out.unsorted.add(1, b, h, i, list.front());
        for (std::size_t at = 1; at < distinct.size(); ++at) {
          if (distinct[at] == distinct[at - 1]) out.duplicates.add(1, b, h, i, distinct[at]);
        }
        distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
        std::int64_t good = 0;
        for (const std::int32_t j : distinct) {
          const bool real = j >= 0 && j < n;
          if (!real) out.out_of_range.add(1, b, h, i, j);
          if (config.causal && j > own) {
            out.future.add(1, b, h, i, j);
          } else if (real && !allowed.at(b, h, i, j)) {
            out.disallowed.add(1, b, h, i, j);
          } else if (real) {
            ++good;
          }
        }
        const auto missing = [&](std::int64_t j) {
          return j >= 0 && j < n && allowed.at(b, h, i, j) && !has(distinct, j);
        };
        const auto lacks = [&](ListFault& fault, std::int64_t j) {
          if (missing(j)) fault.add(1, b, h, i, static_cast<std::int32_t>(j));
        };
        lacks(out.missing_diagonal, own);
        for (std::int64_t j = 0; j < std::min(config.sinks, n); ++j) lacks(out.missing_sink, j);
        for (std::int64_t j = own - config.locals + 1; j < own; ++j) lacks(out.missing_local, j);
        if (static_cast<std::int64_t>(distinct.size()) !=
            expected_count(config, allowed, b, h, i, first)) {
          out.wrong_count.add(1, b, h, i, -1);
        }
        if (good == 0 && allowed_count(allowed, b, h, i) > 0) out.empty_rows.add(1, b, h, i, -1);
      }
    }
  }
  return out;
}

}  // namespace ps
