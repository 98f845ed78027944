#include "model/rope_frequencies.h"

#include <algorithm>
#include <cmath>

namespace ps {
namespace {

constexpr double kPi = 3.14159265358979323846;

// llama3: long waves are stretched by `factor`, short ones stay, those between are blended.
double llama3(double frequency, const Rope& rope, double original) {
  const double wavelength = 2 * kPi / frequency;
  if (wavelength < original / rope.high_freq_factor) return frequency;
  if (wavelength > original / rope.low_freq_factor) return frequency / rope.factor;
  const double blend = (original / wavelength - rope.low_freq_factor) /
                       (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - blend) * frequency / rope.factor + blend * frequency;
}

double yarn_scale(double k, double mscale) {
  return k <= 1 ? 1.0 : 0.1 * mscale * std::log(k) + 1.0;
}

RopeFrequencies yarn(const Rope& rope, std::int64_t dim, std::int64_t max_positions,
                     const std::vector<double>& plain) {
  const auto longest = static_cast<double>(max_positions), d = static_cast<double>(dim);
  const double original = rope.original_max_position.value_or(longest);
  const double k = rope.original_max_position ? longest / original : rope.factor;
  const auto turns_at =
      [&](double turns) {  // the channel that turns so often over the original length
        return d * std::log(original / (turns * 2 * kPi)) / (2 * std::log(rope.theta));
      };
  double low = turns_at(rope.beta_fast), high = turns_at(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, d - 1);
  if (low == high) high += 0.001;

  RopeFrequencies out;
  for (std::size_t j = 0; j < plain.size(); ++j) {
    const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    out.inverse.push_back(static_cast<float>(plain[j] / k * ramp + plain[j] * (1 - ramp)));
  }
  out.attention_factor = yarn_scale(k, 1.0);
  if (rope.mscale && rope.mscale_all_dim && *rope.mscale != 0 && *rope.mscale_all_dim != 0) {
    out.attention_factor = yarn_scale(k, *rope.mscale) / yarn_scale(k, *rope.mscale_all_dim);
  }
  if (rope.attention_factor) out.attention_factor = *rope.attention_factor;
  return out;
}

}  // namespace

RopeFrequencies rope_frequencies(const Rope& rope, std::int64_t dim, std::int64_t max_positions) {
  std::vector<double> plain;
  for (std::int64_t j = 0; j < dim / 2; ++j) {
    plain.push_back(std::pow(rope.theta, -2.0 * static_cast<double>(j) / static_cast<double>(dim)));
  }
  if (rope.kind == RopeKind::kYarn) return yarn(rope, dim, max_positions, plain);
  RopeFrequencies out;
  for (const double frequency : plain) {
    double scaled = frequency;
    if (rope.kind == RopeKind::kLinear) scaled = frequency / rope.factor;
    if (rope.kind == RopeKind::kLlama3) {
      scaled = llama3(frequency, rope,
                      rope.original_max_position.value_or(static_cast<double>(max_positions)));
    }
    out.inverse.push_back(static_cast<float>(scaled));
  }
  return out;
}

}  // namespace ps
