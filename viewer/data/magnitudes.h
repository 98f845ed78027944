// How large the values of every point of a step are: what the Divergence strip shows in the modes
// expected and actual. An activation that grows from layer to layer is seen before anything breaks.
#pragma once

#include <map>
#include <memory>
#include <stop_token>
#include <string>

#include "viewer/app/session.h"

namespace ps::viewer {

struct Magnitude {
  double rms = 0, largest = 0;  // of the finite values
  std::int64_t nonfinite = 0, sampled = 0;
};

struct Magnitudes {
  std::map<std::string, Magnitude, std::less<>> points;
  double low = 0, high = 0;  // rms, over all points that are not zero
  // Where the point stands between low and high, by logarithm.
  double share(const Magnitude& m) const;
};

// Every value of small tensors, an even sample of large ones; NaN and infinities of those only
// where the sample meets them.
std::shared_ptr<const Magnitudes> made_magnitudes(const RunPtr& run, std::int64_t step,
                                                  std::int64_t rank, const std::stop_token& stop);

}  // namespace ps::viewer
