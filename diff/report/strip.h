// A report folded into ops x layers, each cell the worst of all steps and ranks: what the terminal,
// report.md and strip.png draw.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "diff/report/report.h"

namespace ps {

struct StripCell {
  bool captured = false;
  PointStatus status = PointStatus::kIgnored;
  double ratio = 0;
  bool first = false;  // the first divergence is here
};

struct StripRow {
  std::string op;                // "self_attn:q_rope"; outside the layers "model.norm"
  std::vector<StripCell> cells;  // one a layer; outside the layers one
};

struct Strip {
  std::int64_t layers = 0;
  std::vector<std::int64_t> layer_numbers;  // of the columns; those without a point are left out
  std::vector<StripRow> before, inside, after;
  std::size_t unknown = 0;  // points that the table does not have
  bool empty() const { return before.empty() && inside.empty() && after.empty(); }
};

Strip strip_of(const Report& report);

// What is worse: the status that says more, then the larger ratio.
bool worse(PointStatus a, double ratio_a, PointStatus b, double ratio_b);
// The op itself went wrong here: diverged, not finite, or of another shape.
bool is_bad(PointStatus status);
bool is_bad(const PointRow& row);
std::size_t count_of(const Report& report, PointStatus status);

// One letter a cell: '.' up to half the bound, ':' up to the bound, '1' to '9' the powers of ten
// over it, '~' propagated, and N, S, ?, h, _ for the other states.
char letter_of(const StripCell& cell);
struct LegendEntry {
  char letter;
  std::string meaning;
};
std::vector<LegendEntry> legend_of(const Strip& strip);  // of the letters that occur

// Columns [first, last) folded into at most `most` cells by the worst of each.
std::vector<StripCell> folded(const std::vector<StripCell>& cells, std::size_t most);

// Compared points: what went wrong by itself first, then by ratio.
std::vector<const PointRow*> points_worst_first(const Report& report);
// The first of them; only those that are wrong by themselves, where there are any.
std::vector<const PointRow*> worst_points(const Report& report, std::size_t most);

// "12.3x", "0.71", "1.2e+06x" for a ratio; "1.25e-06", "not finite" for other numbers.
std::string ratio_text(double ratio);
std::string number_text(double x);
std::string ulp_text(const PointRow& row);  // empty where the values have no last place

}  // namespace ps
