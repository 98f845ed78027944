// What the arrays of a program look like along one axis, as intervals of positions: found once,
// used for every row and plane.
#pragma once

#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "diff/mask/program.h"

namespace ps::mask {

using Intervals = std::vector<std::pair<std::int64_t, std::int64_t>>;  // sorted, not touching

class RunIndex {
 public:
  explicit RunIndex(const Program& program) : program_(program) {}

  const Intervals& nonzero(int array, std::int64_t b);
  // The positions that hold `id`.
  const Intervals& with_id(int array, std::int64_t b, std::int64_t id);
  // The positions whose id the row `id` of the matrix `allow` allows.
  const Intervals& with_role(int ids, int allow, std::int64_t b, std::int64_t id);
  // The position after the last one that holds the same value as `at`.
  std::int64_t stretch_end(int array, std::int64_t b, std::int64_t at);
  // For a query at q: the keys of all segments that hold q, and the first later q with others.
  std::pair<const Intervals*, std::int64_t> segments(const Node& node, std::int64_t q);

 private:
  struct Pieces {
    std::vector<std::int64_t> begin;
    std::vector<Intervals> keys;
  };
  const Pieces& pieces(const Node& node);

  const Program& program_;
  std::map<std::pair<int, std::int64_t>, Intervals> nonzero_;
  std::map<std::pair<int, std::int64_t>, std::map<std::int64_t, Intervals>> ids_;
  std::map<std::tuple<int, int, std::int64_t, std::int64_t>, Intervals> roles_;
  std::map<std::pair<int, std::int64_t>, std::vector<std::int64_t>> stretches_;
  std::map<const Node*, Pieces> pieces_;
};

}  // namespace ps::mask
