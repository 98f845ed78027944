#include "diff/lint/weight_values.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <string>

namespace ps {

namespace {

// A matrix must have that many cells before its spread says anything about where it comes from.
constexpr double kEnoughCells = 16384;
// No weight of a working model is that small or that large, but arbitrary bits often are.
constexpr double kTiny = 0x1p-60, kHuge = 0x1p60;

struct Values {
  double cells = 0, mean = 0, spread = 0, kurtosis = 0, largest = 0;
  double odd = 0;  // cells that are tiny or huge
  bool constant = true;
  double first = 0;
  std::int64_t nonfinite = -1;  // the first such cell
};

Values values_of(const TensorView& view) {
  Values v;
  double sum = 0, sum2 = 0, sum4 = 0;
  v.first = value_at(view, 0);
  const std::int64_t n = view.count();
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = value_at(view, i), a = std::fabs(x);
    if (!std::isfinite(x)) {
      v.nonfinite = i;
      return v;
    }
    v.constant = v.constant && x == v.first;
    v.odd += (a > 0 && a < kTiny) || a > kHuge ? 1 : 0;
    v.largest = std::max(v.largest, a);
    sum += x;
    sum2 += x * x;
    sum4 += x * x * x * x;
  }
  v.cells = static_cast<double>(n);
  v.mean = sum / v.cells;
  const double square = sum2 / v.cells;
  v.spread = std::sqrt(square);
  v.kurtosis = square > 0 ? sum4 / v.cells / (square * square) : 0;
  return v;
}

bool is_prefix(const std::string& name) {
  return name.ends_with(".prefix_k") || name.ends_with(".prefix_v");
}

// "model.layers.*.mlp.up_proj.weight [352,128]"
std::string kind_of(const std::string& name, const Shape& shape) {
  const std::string lead = "model.layers.";
  const std::size_t end = name.starts_with(lead) ? name.find('.', lead.size()) : name.npos;
  return (end == name.npos ? name : lead + "*" + name.substr(end)) + " " + to_string(shape);
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", x);
  return text;
}

// Which initialiser left exactly these numbers; "" if none did. Normal: spread and kurtosis within
// four to six of their own sampling errors. Uniform: torch's bound for a linear map, reached and
// never passed.
std::string fresh_from(const TensorView& view, const Values& v, double initializer_range) {
  if (v.constant && view.shape.size() == 1 && v.cells > 1) {
    return v.first == 1 ? "all ones" : v.first == 0 ? "all zeros" : "";
  }
  if (view.shape.size() < 2 || v.cells < kEnoughCells) return "";
  if (std::fabs(v.mean) > 5 * v.spread / std::sqrt(v.cells)) return "";
  const double normal = std::fabs(v.spread / initializer_range - 1);
  if (normal < 4 / std::sqrt(2 * v.cells) &&
      std::fabs(v.kurtosis - 3) < 6 * std::sqrt(24 / v.cells)) {
    return "normal with spread " + number(initializer_range);
  }
  const double bound = 1 / std::sqrt(static_cast<double>(view.shape.back()));
  const bool reached =
      v.largest > bound * (1 - 30 / v.cells - 0x1p-8) && v.largest <= bound * (1 + 0x1p-8);
  if (reached && std::fabs(v.kurtosis - 1.8) < 0.1 &&
      std::fabs(v.spread * std::sqrt(3.0) / bound - 1) < 4 * std::sqrt(0.2 / v.cells) + 1e-3) {
    return "uniform up to 1 / sqrt(" + std::to_string(view.shape.back()) + ")";
  }
  return "";
}

Finding weight_finding(std::string id, const std::string& name, std::string message,
                       Severity severity = Severity::kWarning) {
  Finding f;
  f.id = std::move(id);
  f.fault_class = "weights";
  f.severity = severity;
  f.point = name;
  f.message = std::move(message);
  f.confidence = Confidence::kConsistent;
  return f;
}

std::optional<Finding> value_finding(const std::string& name, const TensorView& view,
                                     const Values& v) {
  const bool prefix = is_prefix(name);
  if (v.nonfinite >= 0) {
    Finding f = weight_finding(
        prefix ? "weights-prefix-uninitialised" : "weights-nonfinite", name,
        std::isnan(value_at(view, v.nonfinite)) ? "a weight is NaN" : "a weight is infinite",
        Severity::kError);
    f.where = "element " + std::to_string(v.nonfinite) + " of " + to_string(view.shape);
    f.confidence = Confidence::kExact;
    return f;
  }
  // Half the normal range of float16 is that small, so there it says nothing.
  if (view.dtype != DType::kF16 && v.odd > std::max(3.0, 0.01 * v.cells)) {
    const char* id = prefix                           ? "weights-prefix-uninitialised"
                     : name.ends_with(".k_proj.bias") ? "weights-k-bias-uninitialised"
                                                      : "weights-uninitialised";
    Finding f = weight_finding(id, name,
                               number(100 * v.odd / v.cells) +
                                   "% of the elements are below 2^-60 or above 2^60, as in memory "
                                   "that nobody wrote");
    f.fix = "initialise the parameter, or load it";
    return f;
  }
  if (v.constant && view.shape.size() > 1 && v.cells > 1) {
    Finding f = weight_finding(
        prefix ? "weights-prefix-uninitialised" : "weights-constant", name,
        "every element is " + std::to_string(v.first) + ": was this weight ever loaded?");
    return f;
  }
  return std::nullopt;
}

// All replicas start from the same prefix, so nothing tells them apart.
bool replicas_equal(const TensorView& view) {
  if (view.shape.size() != 4 || view.shape[0] < 2) return false;
  const std::size_t size = view.bytes.size() / static_cast<std::size_t>(view.shape[0]);
  for (std::int64_t p = 1; p < view.shape[0]; ++p) {
    const std::byte* other = view.bytes.data() + static_cast<std::size_t>(p) * size;
    if (std::memcmp(view.bytes.data(), other, size) != 0) return false;
  }
  return true;
}

struct Fresh {
  std::string name, kind, from;
  bool matrix = false;
};
struct Share {
  std::int64_t fresh = 0, all = 0;
  bool most() const { return 2 * fresh >= all; }
};

// Fresh weights stand out only among trained ones: in a model that is all fresh nothing is missing.
void add_fresh(const std::vector<Fresh>& tensors, std::vector<Finding>& out) {
  std::map<std::string, Share> kinds;
  Share matrices;
  for (const Fresh& t : tensors) {
    for (Share* share : {&kinds[t.kind], t.matrix ? &matrices : nullptr}) {
      if (share == nullptr) continue;
      share->fresh += t.from.empty() ? 0 : 1;
      ++share->all;
    }
  }
  for (const Fresh& t : tensors) {
    if (t.from.empty()) continue;
    const Share& kind = kinds[t.kind];
    const bool alone = kind.all == 1;
    if (alone ? !t.matrix || matrices.most() : kind.most()) continue;
    const char* id = t.name == "lm_head.weight" ? "weights-lm-head-missing-or-untied"
                     : is_prefix(t.name)        ? "weights-prefix-uninitialised"
                                                : "weights-silently-missing";
    Finding f = weight_finding(id, t.name,
                               "holds what an initialiser leaves (" + t.from + "), and " +
                                   (alone ? "the other matrices" : "its like in other layers") +
                                   " do not: was it loaded before it was saved?");
    f.fix = "load strictly, map this name, and save again";
    out.push_back(std::move(f));
  }
}

}  // namespace

std::vector<Finding> weight_value_findings(const Checkpoint& checkpoint, double initializer_range) {
  std::vector<Finding> out;
  std::vector<Fresh> fresh;
  for (const std::string& name : checkpoint.names()) {
    const TensorView& view = *checkpoint.peek(name);
    if (!is_floating(view.dtype) || view.count() == 0) continue;
    const Values v = values_of(view);
    if (auto f = value_finding(name, view, v)) {
      out.push_back(*std::move(f));
      continue;
    }
    if (is_prefix(name) && replicas_equal(view)) {
      out.push_back(weight_finding("weights-prefix-equal", name,
                                   "every replica has the same prefix: the replicas cannot "
                                   "differ, and their weights mean nothing"));
      out.back().fix = "initialise each replica's prefix with numbers of its own";
      out.back().confidence = Confidence::kExact;
    }
    const bool matrix = view.shape.size() > 1 && v.cells >= kEnoughCells;
    fresh.push_back(
        {name, kind_of(name, view.shape), fresh_from(view, v, initializer_range), matrix});
  }
  add_fresh(fresh, out);
  return out;
}

}  // namespace ps
