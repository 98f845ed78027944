#include "viewer/data/magnitudes.h"

#include <algorithm>
#include <cmath>

namespace ps::viewer {

namespace {

constexpr std::int64_t kMostValues = 1 << 16;  // of one tensor

Magnitude magnitude_of(const TensorView& tensor) {
  Magnitude m;
  const std::int64_t count = tensor.count();
  // An odd stride meets every column of a matrix with an even number of them.
  const std::int64_t stride = count <= kMostValues ? 1 : count / kMostValues | 1;
  double sum = 0;
  for (std::int64_t i = 0; i < count; i += stride) {
    const double x = value_at(tensor, i);
    ++m.sampled;
    if (!std::isfinite(x)) {
      ++m.nonfinite;
      continue;
    }
    sum += x * x;
    m.largest = std::max(m.largest, std::fabs(x));
  }
  const std::int64_t finite = m.sampled - m.nonfinite;
  if (finite > 0) m.rms = std::sqrt(sum / static_cast<double>(finite));
  return m;
}

}  // namespace

double Magnitudes::share(const Magnitude& m) const {
  if (m.rms <= 0 || low <= 0 || high <= low) return 0;
  return std::clamp(std::log(m.rms / low) / std::log(high / low), 0.0, 1.0);
}

std::shared_ptr<const Magnitudes> made_magnitudes(const RunPtr& run, std::int64_t step,
                                                  std::int64_t rank, const std::stop_token& stop) {
  auto out = std::make_shared<Magnitudes>();
  if (run == nullptr) return out;
  for (std::size_t i = 0; i < run->trace.steps().size(); ++i) {
    const TraceStep& s = run->trace.steps()[i];
    if (s.step != step || s.rank != rank) continue;
    for (const auto& [name, view] : run->points[i]) {
      if (stop.stop_requested()) return out;
      out->points.emplace(name, magnitude_of(*view));
    }
  }
  out->low = HUGE_VAL;
  for (const auto& [name, m] : out->points) {
    if (m.rms <= 0) continue;
    out->low = std::min(out->low, m.rms);
    out->high = std::max(out->high, m.rms);
  }
  if (!(out->low < HUGE_VAL)) out->low = 0;
  return out;
}

}  // namespace ps::viewer
