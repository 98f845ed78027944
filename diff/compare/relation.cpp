#include "diff/compare/relation.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

namespace ps {

namespace {

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.5g", x);
  return text;
}

// Cells before, along, and behind one axis.
struct Split {
  std::int64_t outer = 1, size = 1, inner = 1;
  std::int64_t at(std::int64_t o, std::int64_t k, std::int64_t i) const {
    return (o * size + k) * inner + i;
  }
};

Split split_at(const std::vector<NamedAxis>& axes, std::size_t axis) {
  Split s;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (i < axis) s.outer *= axes[i].size;
    if (i == axis) s.size = axes[i].size;
    if (i > axis) s.inner *= axes[i].size;
  }
  return s;
}

class Relations {
 public:
  Relations(const TensorView& candidate, const TensorView& expected, const Comparison& compared,
            const std::vector<NamedAxis>& axes, const SameCell& same,
            const std::function<bool(std::int64_t)>& ignored)
      : a_(candidate), b_(expected), c_(compared), axes_(axes), same_(same), ignored_(ignored) {}

  std::string find() const {
    if (c_.rms_candidate == 0 && c_.rms_expected > 0) return "all zero";
    if (std::string text = linear(); !text.empty()) return text;
    for (std::size_t axis = 0; axis < axes_.size(); ++axis) {
      if (axes_[axis].size < 2) continue;
      if (std::string text = permuted(axis); !text.empty()) return text;
      if (std::string text = moved(axis); !text.empty()) return text;
    }
    return "";
  }

 private:
  // a = slope b + intercept leaves next to nothing: a hundredth of what was wrong.
  std::string linear() const {
    const Regression& r = c_.regression;
    if (!r.defined || c_.class_mismatches > 0 || c_.compared < 3) return constant();
    double left = 0, all = 0;
    for (std::int64_t i = 0; i < b_.count(); ++i) {
      if (ignored_(i)) continue;
      const double x = value_at(a_, i), y = value_at(b_, i);
      if (!std::isfinite(x) || !std::isfinite(y)) continue;
      const double rest = x - (r.slope * y + r.intercept);
      left += rest * rest;
      all += (x - y) * (x - y);
    }
    if (!(left <= 1e-4 * all)) return "";
    const double step = std::sqrt(all / static_cast<double>(c_.compared));
    const bool scaled = std::fabs(r.slope - 1) * c_.rms_expected > 0.02 * step;
    const bool offset = std::fabs(r.intercept) > 0.02 * step;
    std::string text = scaled ? number(r.slope) + " x expected" : "expected";
    if (offset) text += (r.intercept < 0 ? " - " : " + ") + number(std::fabs(r.intercept));
    return text;
  }

  // Where the expected tensor is constant there is no slope to fit.
  std::string constant() const {
    if (c_.class_mismatches > 0 || c_.regression.defined || c_.compared == 0) return "";
    std::optional<double> first;
    for (std::int64_t i = 0; i < b_.count(); ++i) {
      if (ignored_(i)) continue;
      const double d = value_at(a_, i) - value_at(b_, i);
      if (!first) first = d;
      if (std::fabs(d - *first) > 1e-5 * std::fabs(*first)) return "";
    }
    if (!first || *first == 0) return "";
    return std::string("expected") + (*first < 0 ? " - " : " + ") + number(std::fabs(*first));
  }

  bool slices_match(const Split& s, std::int64_t mine, std::int64_t theirs) const {
    for (std::int64_t o = 0; o < s.outer; ++o) {
      for (std::int64_t i = 0; i < s.inner; ++i) {
        const std::int64_t at = s.at(o, mine, i), from = s.at(o, theirs, i);
        if (!ignored_(at) && !ignored_(from) && !same_(at, from)) return false;
      }
    }
    return true;
  }

  // Every index holds what its neighbour should hold; one at the edge has no neighbour.
  std::string moved(std::size_t axis) const {
    const Split s = split_at(axes_, axis);
    if (s.size < 3) return "";
    for (const std::int64_t by : {std::int64_t{1}, std::int64_t{-1}}) {
      bool all = true;
      for (std::int64_t k = std::max<std::int64_t>(0, by);
           all && k < s.size + std::min<std::int64_t>(0, by); ++k) {
        all = slices_match(s, k, k - by);
      }
      if (all) {
        return "expected moved by " + std::string(by > 0 ? "+1" : "-1") + " along " +
               axes_[axis].name;
      }
    }
    return "";
  }

  std::string permuted(std::size_t axis) const {
    const Split s = split_at(axes_, axis);
    constexpr std::int64_t kMost = 256;
    if (s.size > kMost) return "";
    std::vector<std::int64_t> from(static_cast<std::size_t>(s.size), -1);
    std::vector<bool> taken(from.size());
    bool identity = true;
    for (std::int64_t k = 0; k < s.size; ++k) {
      const auto fits = [&](std::int64_t j) {
        return !taken[static_cast<std::size_t>(j)] && slices_match(s, k, j);
      };
      std::int64_t found = fits(k) ? k : -1;
      for (std::int64_t j = 0; found < 0 && j < s.size; ++j) {
        if (fits(j)) found = j;
      }
      if (found < 0) return "";
      taken[static_cast<std::size_t>(found)] = true;
      from[static_cast<std::size_t>(k)] = found;
      identity = identity && found == k;
    }
    if (identity) return "";
    std::string text = "expected with its " + axes_[axis].name + " axis permuted: ";
    std::int64_t told = 0;
    for (std::size_t k = 0; k < from.size(); ++k) {
      if (from[k] == static_cast<std::int64_t>(k)) continue;
      if (++told > 8) return text + ", ...";
      if (told > 1) text += ", ";
      text += std::to_string(k) + " holds " + std::to_string(from[k]);
    }
    return text;
  }

  const TensorView& a_;
  const TensorView& b_;
  const Comparison& c_;
  const std::vector<NamedAxis>& axes_;
  const SameCell& same_;
  const std::function<bool(std::int64_t)>& ignored_;
};

}  // namespace

std::string relation_of(const TensorView& candidate, const TensorView& expected,
                        const Comparison& compared, const std::vector<NamedAxis>& axes,
                        const SameCell& same, const std::function<bool(std::int64_t)>& ignored) {
  return Relations(candidate, expected, compared, axes, same, ignored).find();
}

}  // namespace ps
