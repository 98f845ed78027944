#include "diff/isolate/rank_tolerance.h"

#include <cmath>
#include <cstdio>

#include "diff/compare/compare.h"

namespace ps {

double row_parallel_rms(std::int64_t tp) {
  constexpr double kRoundingRms = 0.42;  // of one rounding, relative to the rounded value
  const auto n = static_cast<double>(tp);
  // One rounding of the result, and for more ranks those of the parts (variance 1 / tp each) and of
  // the running sums (k / tp), of which the last is the result's own.
  return kRoundingRms * std::sqrt(tp == 1 ? 1.0 : 1.0 + (n + 1.0) / 2.0 - 1.0 / n);
}

std::string rank_tolerance(DType run, std::int64_t tp, std::int64_t layers) {
  if (tp <= 1) return "";
  char text[640];
  const bool half = size_of(run) < 4;
  const double drift = default_bound(run, run, layers).l2_limit;
  std::snprintf(
      text, sizeof text,
      "%lld ranks, %s (u = 2^%d): o_proj and down_proj may err by u times each rank's part and "
      "each running sum, on top of what one rank may (rms %.2f u, one rank %.2f u); each op is "
      "judged on its own inputs, so depth adds nothing here; two right runs of %lld layers may "
      "differ by rel L2 %d u sqrt(layers + 1) = %.2g%s",
      static_cast<long long>(tp), std::string(short_name(run)).c_str(),
      static_cast<int>(std::lround(std::log2(unit_roundoff(run)))), row_parallel_rms(tp),
      row_parallel_rms(1), static_cast<long long>(layers), half ? 3 : 32, drift,
      half ? "; equal tokens are no criterion in 16 bits" : "");
  return text;
}

void state_rank_tolerance(DType run, std::int64_t tp, std::int64_t layers, Report& report) {
  if (tp <= 1) return;
  report.environment.emplace_back("tolerance_over_ranks",
                                  json_string(rank_tolerance(run, tp, layers)));
}

}  // namespace ps
