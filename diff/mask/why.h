// Why a cell is allowed or not: the clauses that decide it, with their parameters, and the smallest
// change of one parameter that would turn it over.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "diff/mask/mask.h"

namespace ps::mask {

struct Reason {
  std::string pointer;  // "/expr/args/1"
  std::string tag;      // the nearest, from here up
  std::string clause;   // text_of the deciding leaf
};

struct Change {
  std::string pointer;  // "/expr/args/0/shift", "/arrays/starts/data/3"
  std::string clause;
  std::int64_t from = 0, to = 0;
};

struct Why {
  CellIndex cell{};
  std::int64_t q = 0, k = 0;
  bool allowed = false;
  std::vector<Reason> reasons;
  std::optional<Change> change;  // absent where no single parameter decides

  std::string text() const;
  std::string json() const;
};

Why why(const Program& program, const CellIndex& cell);

}  // namespace ps::mask
