// The report of spec cli.md, as data. Everything that parscope finds out goes through it; text,
// JSON and the other forms are made from it and add nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/finding.h"
#include "core/tensor.h"
#include "diff/report/replicas.h"

namespace ps {

enum class Verdict : std::uint8_t { kEquivalent, kDiverged, kInvalid };

enum class PointStatus : std::uint8_t {
  kOk,
  kDiverged,
  kPropagated,
  kHealed,
  kNonfinite,
  kShape,
  kMissing,
  kUnmatched,
  kIgnored,
};

struct PointRow {
  std::int64_t step = 0;
  std::int64_t rank = 0;
  std::string point;
  Shape shape;
  std::string dtype;
  PointStatus status = PointStatus::kOk;
  double max_abs = 0;
  double rel_l2 = 0;
  std::int64_t max_ulp = 0;
  double ratio = 0;  // error over the bound that rounding explains
  std::int64_t compared = 0;
  std::int64_t ignored = 0;  // cells of rows that see no key, padding
};

struct FirstDivergence {
  std::int64_t step = 0;
  std::int64_t rank = 0;
  std::string point;
  std::string where;
};

struct BlindSpot {
  std::string id;
  std::string why;
};

// What a --baseline changed (baseline.h).
struct BaselineUse {
  std::string file;
  std::int64_t accepted = 0;
  std::vector<std::string> gone;        // "id at point, step 0, rank 0": no longer found
  std::vector<std::string> new_points;  // diverged or not finite here, and fine in the baseline
};

// What a sample left out.
struct NotJudged {
  std::string sample;                                        // as it was asked for: "every=8"
  std::string layers;                                        // "layers 1-7, 9-14"
  std::vector<std::pair<std::int64_t, std::string>> points;  // step and name, in order
  std::string rows;  // "all but 16 of 512 tokens of the projections"; empty: all were
};

struct Report {
  Verdict verdict = Verdict::kEquivalent;
  std::optional<FirstDivergence> first_divergence;
  std::vector<PointRow> points;
  std::vector<Finding> findings;
  std::vector<BlindSpot> blind_spots;
  std::optional<double> power;
  // Name and JSON text, in order.
  std::vector<std::pair<std::string, std::string>> environment, inputs, timing;
  std::optional<BaselineUse> baseline;
  std::optional<NotJudged> not_judged;
  std::optional<ReplicaVotes> replicas;  // of a check of a model with several
};

std::string_view to_string(Verdict verdict);
std::string_view to_string(PointStatus status);
std::string json_string(
    std::string_view text);  // quoted and escaped; bytes that are not UTF-8 become U+FFFD

std::string report_json(const Report& report);

// Text for a terminal, at most `width` columns (80 at least).
struct TextStyle {
  bool color = false;
  bool quiet = false;  // only what is wrong
  int width = 100;
};
std::string report_text(const Report& report, const std::string& subject, const TextStyle& style);

// 0 nothing wrong, 1 an error or a divergence, 2 invalid.
int exit_code(const Report& report);

}  // namespace ps
