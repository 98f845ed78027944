#include "diff/report/stored.h"

#include <string>

#include "core/file.h"
#include "core/json.h"

namespace ps {

namespace {

constexpr JsonLimits kLimits = {.depth = 64, .values = std::int64_t{1} << 25};

std::string text_of(const Json& object, std::string_view name) {
  const Json* value = object.find(name);
  return value != nullptr && value->is(Json::Kind::kString) ? value->text : "";
}
std::int64_t integer_of(const Json& object, std::string_view name) {
  const Json* value = object.find(name);
  return value != nullptr && value->is(Json::Kind::kInteger) ? value->integer : 0;
}

// The value of an enum by its word; `where` says which member of the file it is.
template <class E>
Result<E> by_word(const Json& object, std::string_view name, std::initializer_list<E> all,
                  const std::string& where) {
  const std::string word = text_of(object, name);
  std::string known;
  for (const E e : all) {
    if (to_string(e) == word) return e;
    known += (known.empty() ? "" : ", ") + std::string(to_string(e));
  }
  const Json* value = object.find(name);
  return bad_input(where + "/" + std::string(name), "unknown word", known,
                   value == nullptr ? "nothing" : value->brief());
}

Result<Finding> finding_of(const Json& json, const std::string& where) {
  using enum Severity;
  using enum Confidence;
  Finding f;
  f.id = text_of(json, "id");
  if (f.id.empty()) return bad_input(where + "/id", "is missing");
  f.fault_class = text_of(json, "class");
  PS_TRY(f.severity, by_word(json, "severity", {kError, kWarning, kInfo}, where));
  PS_TRY(f.confidence, by_word(json, "confidence", {kExact, kConsistent, kUnnamed}, where));
  f.step = integer_of(json, "step");
  f.rank = integer_of(json, "rank");
  f.point = text_of(json, "point");
  f.where = text_of(json, "where");
  f.message = text_of(json, "message");
  f.fix = text_of(json, "fix");
  if (const Json* evidence = json.find("evidence"); evidence != nullptr) {
    for (std::size_t i = 0; i < evidence->names.size(); ++i) {
      f.evidence.emplace_back(evidence->names[i], evidence->items[i].dump());
    }
  }
  return f;
}

}  // namespace

Result<Report> read_stored_findings(const std::filesystem::path& path) {
  const std::string name = path.string();
  PS_TRY(const std::string text, read_text(path));
  PS_TRY(const Json json, parse_json(text, name, kLimits));
  if (text_of(json, "format") != "parscope-report/1") {
    const Json* format = json.find("format");
    return bad_input(name, "is no report", "\"format\": \"parscope-report/1\"",
                     format == nullptr ? "" : format->brief());
  }
  Report report;
  PS_TRY(report.verdict,
         by_word(json, "verdict", {Verdict::kEquivalent, Verdict::kDiverged, Verdict::kInvalid},
                 name + ": "));
  const Json* findings = json.find("findings");
  if (findings == nullptr || !findings->is(Json::Kind::kArray)) {
    return bad_input(name + ": /findings", "must be an array");
  }
  for (std::size_t i = 0; i < findings->items.size(); ++i) {
    const std::string where = name + ": /findings/" + std::to_string(i);
    PS_TRY(Finding finding, finding_of(findings->items[i], where));
    report.findings.push_back(std::move(finding));
  }
  return report;
}

}  // namespace ps
