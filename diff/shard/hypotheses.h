// What a wrong shard is instead of what it should be (tensor-parallel.md 7.1): the known mistakes
// are tried in a fixed order, and one that reproduces every bit has its name.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "diff/shard/same_bits.h"

namespace ps {

struct Hypothesis {
  std::string code;                // "TP003"
  bool loss_only = false;          // right but for precision: a warning
  std::string words;               // "holds rank 1's slice"
  std::vector<Hypothesis> also{};  // other parts of the same shard that have other codes
};

// How many hypotheses there are, in the order of 7.1, and one of them.
std::size_t hypothesis_count();
std::optional<Hypothesis> try_hypothesis(std::size_t which, const ShardQuestion& question);

// Two of them by name: the slice of another rank, and key/value head r % heads.
std::optional<Hypothesis> slice_of_other_rank(const ShardQuestion& question);
std::optional<Hypothesis> kv_head_by_modulo(const ShardQuestion& question);

// Several wrong shards of one kind of tensor (all its ranks and layers): the first hypothesis that
// explains all of them, else for each the first that explains it, else those that explain its parts
// (q, k, v or gate, up), else TP007. `moved`: ranks whose other tensors are another rank's.
std::vector<Hypothesis> name_shards(const std::vector<ShardQuestion>& questions,
                                    const std::set<std::int64_t>& moved = {});

}  // namespace ps
