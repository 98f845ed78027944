#include <algorithm>
#include <map>
#include <string>

#include "core/checkpoint.h"
#include "diff/lint/trace_checks.h"
#include "diff/report/report.h"

namespace ps {

namespace {

bool all_zero(const TensorView& view) {
  for (std::int64_t i = 0; i < view.count(); ++i) {
    if (value_at(view, i) != 0) return false;
  }
  return view.count() > 0;
}

std::string json_list(const std::vector<std::string>& names, std::size_t most) {
  std::string out = "[";
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i) {
    out += (i == 0 ? "" : ",") + json_string(names[i]);
  }
  return out + "]";
}

Finding of(const std::vector<std::string>& names, const std::string& what) {
  constexpr std::size_t kMostNames = 12;
  Finding f;
  f.id = "runtime-training-only";
  f.fault_class = "runtime";
  f.severity = Severity::kWarning;  // frozen on purpose, or not
  f.point = "grad/" + names[0];
  f.message = std::to_string(names.size()) +
              (names.size() == 1 ? " parameter has " : " parameters have ") + what +
              "; right only if frozen on purpose";
  f.evidence = {{"parameters", json_list(names, kMostNames)}};
  f.fix = "look for no_grad, detach() and the list of frozen parameters around these";
  f.confidence = Confidence::kConsistent;
  return f;
}

}  // namespace

std::vector<Finding> gradient_findings(const Trace& trace, const ModelConfig& config) {
  std::map<std::string, bool, std::less<>> zero;  // by parameter: zero in all steps
  for (const TraceStep& step : trace.steps()) {
    for (const auto& entry : step.tensors->entries()) {
      if (!entry.name.starts_with("grad/")) continue;
      const auto [at, fresh] = zero.emplace(entry.name.substr(5), true);
      at->second = at->second && all_zero(entry.view);
    }
  }
  std::vector<Finding> out;
  if (zero.empty()) return out;
  std::vector<std::string> missing, silent;
  for (const WeightSpec& spec : expected_weights(config)) {
    if (count_of(spec.shape) == 0) continue;
    const auto at = zero.find(spec.name);
    if (at == zero.end()) {
      missing.push_back(spec.name);
    } else if (at->second) {
      silent.push_back(spec.name);
    }
  }
  if (!missing.empty()) out.push_back(of(missing, "no gradient"));
  if (!silent.empty()) out.push_back(of(silent, "a gradient of zeros"));
  return out;
}

}  // namespace ps
