// An actual mask against the program that says what it should be: leaks (allowed, should not be)
// and hidden pairs (should be allowed), each attributed to the clause it breaks, and the known
// mistakes that reproduce the actual mask exactly. Codes: spec masks.md 5.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/finding.h"
#include "diff/mask/mask.h"

namespace ps::mask {

// What a clause is about; decides the code of its leaks.
enum class Topic : std::uint8_t { kFuture, kPadding, kSegment, kWindow, kOther };

// A top-level `and` argument of the expected program (or all of it, where it is no `and`).
struct Clause {
  std::string tag;              // as the program gives it; may be empty
  Topic topic = Topic::kOther;  // of the tag, else of the ops inside
  const Node* node = nullptr;
  Mask mask;
};

class Expected {
 public:
  static Result<Expected> of(Program program);

  const Program& program() const { return *program_; }
  const Mask& mask() const { return mask_; }
  const std::vector<Clause>& clauses() const { return clauses_; }

 private:
  std::shared_ptr<const Program> program_;  // clauses point into it
  Mask mask_;
  std::vector<Clause> clauses_;
};

struct Cells {
  std::int64_t count = 0;
  std::optional<CellIndex> first;
};
Cells cells_of(const Mask& mask);

struct Comparison {
  Cells leak, hidden, self_hidden;
  std::vector<std::pair<std::string, Cells>> leak_by_tag;  // tagged clauses, in order
  std::int64_t empty_rows = 0;
  std::optional<RowIndex> first_empty_row;
  std::vector<std::string> hypotheses;  // all that give the actual mask exactly
};
Result<Comparison> compare(const Expected& expected, const Mask& actual);

// The names of masks.md 9, "equal" first.
Result<std::vector<std::string>> matching_hypotheses(const Expected& expected, const Mask& actual);

// Everything wrong, the cause first.
Result<std::vector<Finding>> check(const Expected& expected, const Mask& actual);
// MK001 alone; `expected` says which rows are padding.
std::optional<Finding> check_rows(const Expected& expected, const Mask& actual);

// MK040: masks of consecutive generation steps. Programs, because offsets are part of the contract.
Result<std::vector<Finding>> check_steps(const std::vector<Program>& steps);

// "batch=0 head=1 query=24 key=3"
std::string where_of(const CellIndex& cell);
std::string where_of(const RowIndex& row);
Finding mask_finding(std::string id, Severity severity, std::string where, std::string message);
std::string json_of(const CellIndex& cell);  // "[0,1,24,3]"

}  // namespace ps::mask
