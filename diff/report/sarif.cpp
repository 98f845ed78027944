#include <array>
#include <cstdio>
#include <map>

#include <nlohmann/json.hpp>

#include "diff/report/baseline.h"
#include "diff/report/forms.h"
#include "diff/report/link.h"
#include "diff/report/words.h"

namespace ps {

namespace {

using Json = nlohmann::ordered_json;

const char* level_of(Severity severity) {
  switch (severity) {
    case Severity::kError:
      return "error";
    case Severity::kWarning:
      return "warning";
    case Severity::kInfo:
      return "note";
  }
  return "error";
}

// A path as a URI reference: everything that is not plain is escaped.
std::string uri_of(const std::string& path) {
  std::string out;
  for (const char c : path) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || std::string_view("-._~/").find(c) != std::string_view::npos) {
      out += c;
      continue;
    }
    std::array<char, 4> escaped{};
    std::snprintf(escaped.data(), escaped.size(), "%%%02X", static_cast<unsigned char>(c));
    out += escaped.data();
  }
  return path.starts_with('/') ? "file://" + out : out;
}

// The same finding has the same fingerprint in every run: FNV-1a of what --baseline compares.
std::string fingerprint(const Finding& f) {
  std::uint64_t h = 0xcbf29ce484222325U;
  const std::string key =
      f.id + "\n" + f.point + "\n" + std::to_string(f.step) + "\n" + std::to_string(f.rank);
  for (const char c : key) h = (h ^ static_cast<std::uint8_t>(c)) * 0x100000001b3U;
  std::array<char, 20> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(h));
  return text.data();
}

Json rules_of(const Report& report, std::map<std::string, int>& index) {
  Json rules = Json::array();
  for (const Finding& f : report.findings) {
    const auto [it, is_new] = index.emplace(f.id, static_cast<int>(index.size()));
    if (!is_new) continue;
    Json rule = {{"id", f.id}, {"shortDescription", {{"text", plain(f.id)}}}};
    if (!f.fix.empty()) rule["help"] = {{"text", f.fix}};
    rule["properties"] = {{"tags", Json::array({f.fault_class})}};
    rules.push_back(std::move(rule));
  }
  return rules;
}

Json result_of(const Report& report, const Finding& f, int rule, const std::string& artifact,
               const std::string& capture) {
  std::string words = f.message.empty() ? f.id : f.message;
  if (!f.where.empty()) words += "\nwhere: " + f.where;
  if (!f.fix.empty()) words += "\nfix: " + f.fix;
  Json location = {
      {"physicalLocation",
       {{"artifactLocation", {{"uri", uri_of(artifact)}}}, {"region", {{"startLine", 1}}}}}};
  if (!f.point.empty()) {
    location["logicalLocations"] =
        Json::array({{{"fullyQualifiedName", f.point}, {"kind", "member"}}});
  }
  Json result = {{"ruleId", f.id},
                 {"ruleIndex", rule},
                 {"level", level_of(f.severity)},
                 {"message", {{"text", words}}},
                 {"locations", Json::array({std::move(location)})},
                 {"partialFingerprints", {{"parscope/v1", fingerprint(f)}}},
                 {"properties",
                  {{"step", f.step},
                   {"rank", f.rank},
                   {"class", f.fault_class},
                   {"confidence", to_string(f.confidence)}}}};
  if (!f.point.empty()) result["properties"]["view"] = to_string(link_to(capture, f));
  if (!report.baseline) return result;
  const bool known = is_accepted(f);
  result["baselineState"] = known ? "unchanged" : "new";
  if (known) {
    result["suppressions"] =
        Json::array({{{"kind", "external"}, {"justification", "accepted by the baseline"}}});
  }
  return result;
}

}  // namespace

std::string report_sarif(const Report& report, const std::string& artifact) {
  std::map<std::string, int> index;
  Json driver = {{"name", "parscope"}, {"rules", rules_of(report, index)}};
  const std::string capture = capture_of(report);
  Json results = Json::array();
  for (const Finding& f : report.findings) {
    results.push_back(result_of(report, f, index.at(f.id), artifact, capture));
  }
  Json run = {{"tool", {{"driver", std::move(driver)}}},
              {"results", std::move(results)},
              {"columnKind", "utf16CodeUnits"},
              {"properties", {{"verdict", to_string(report.verdict)}}}};
  const Json out = {{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
                    {"version", "2.1.0"},
                    {"runs", Json::array({std::move(run)})}};
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace ps
