#include "diff/sparse/findings.h"

#include <cmath>
#include <cstdio>

namespace ps {

namespace {

struct Code {
  const char* name;
  Severity severity;
  const char* rule;
  const char* fix;
};

constexpr Code kCodes[] = {
#define PS_SPARSE_CODE(code, severity, rule, fix) {#code, Severity::k##severity, rule, fix},
#include "diff/sparse/codes.def"
#undef PS_SPARSE_CODE
};

}  // namespace

std::string json_number(double x) {
  if (!std::isfinite(x)) return "null";
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

std::string SparsePlace::text() const {
  std::string out;
  const auto part = [&](const char* name, std::int64_t at) {
    if (at >= 0) out += (out.empty() ? "" : " ") + std::string(name) + "=" + std::to_string(at);
  };
  part("batch", batch);
  part("head", head);
  part("row", row);
  part("query", query);
  part("block", block);
  return out;
}

bool SparseFindings::has(const std::string& code, const std::string& point) const {
  for (const Finding& f : found_) {
    if (f.id == code && f.step == step && (point.empty() || f.point == point)) return true;
  }
  return false;
}

bool SparseFindings::has_errors() const {
  for (const Finding& f : found_) {
    if (f.severity == Severity::kError) return true;
  }
  return false;
}

void SparseFindings::add(const std::string& code, const std::string& point,
                         const SparsePlace& place, const std::string& message, Evidence evidence) {
  if (has(code, point)) return;
  Finding f;
  f.id = code;
  f.fault_class = "sparse";
  for (const Code& known : kCodes) {
    if (code != known.name) continue;
    f.severity = known.severity;
    f.fix = known.fix;
    evidence.emplace_back("invariant", std::string("\"") + known.rule + "\"");
  }
  f.step = step;
  f.point = point;
  f.where = place.text();
  f.message = message;
  f.evidence = std::move(evidence);
  f.confidence = Confidence::kConsistent;  // a broken rule is a fact, its cause a guess
  found_.push_back(std::move(f));
}

void SparseFindings::unnamed(const std::string& kind, const std::string& point,
                             const SparsePlace& place, const std::string& message,
                             Evidence evidence) {
  if (has("unnamed", point)) return;
  add("unnamed", point, place, message, std::move(evidence));
  found_.back().fault_class = kind;
  found_.back().confidence = Confidence::kUnnamed;
}

}  // namespace ps
