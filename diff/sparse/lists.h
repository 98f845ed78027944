// What is wrong with block lists, without a look at any score (spec sparse.md sections 6 and 10).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/sparse.h"
#include "diff/sparse/masks.h"

namespace ps {

// One kind of fault in a set of lists: how often, and where it comes first.
struct ListFault {
  std::int64_t count = 0;
  std::int64_t batch = -1, head = -1, row = -1;
  std::int32_t block = -1;
  void add(std::int64_t n, std::int64_t b, std::int64_t h, std::int64_t i, std::int32_t j);
};

struct ListFaults {
  ListFault duplicates;        // entries that stand there already
  ListFault unsorted;          // rows whose entries do not ascend
  ListFault out_of_range;      // entries outside [0, nb)
  ListFault future;            // distinct blocks after the row's own; causal cases only
  ListFault disallowed;        // other distinct blocks that hold no allowed pair
  ListFault missing_diagonal;  // rows that lack their own block although it is allowed
  ListFault missing_sink;      // allowed first blocks that are not there
  ListFault missing_local;     // allowed blocks just before the own that are not there
  ListFault wrong_count;       // rows of another length than the rule of the walk
  ListFault empty_rows;        // rows without an allowed block that might have one
};

// `allowed`: [B, 1 or H, rows, nb]. The first row is query block `first`.
ListFaults list_faults(const SparseConfig& config, const BlockLists& lists, const PairMask& allowed,
                       std::int64_t first);

// The rules of a decode step: a gate forces the newest block, whatever else it forces.
SparseConfig decode_rules(const SparseConfig& config);

// The blocks that a row must have: its sinks and its own neighbourhood, where allowed.
std::vector<std::int32_t> forced_blocks(const SparseConfig& config, const PairMask& allowed,
                                        std::int64_t b, std::int64_t h, std::int64_t row,
                                        std::int64_t first);
// min(max(tau, forced), allowed).
std::int64_t expected_count(const SparseConfig& config, const PairMask& allowed, std::int64_t b,
                            std::int64_t h, std::int64_t row, std::int64_t first);

}  // namespace ps
