#include "diff/report/stored.h"

#include <limits>
#include <string>

#include "core/file.h"
#include "core/json.h"
#include "diff/report/stored_votes.h"

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

double number_of(const Json& object, std::string_view name) {
  const Json* value = object.find(name);
  const bool is_number =
      value != nullptr && (value->is(Json::Kind::kInteger) || value->is(Json::Kind::kNumber));
  return is_number ? value->number : std::numeric_limits<double>::quiet_NaN();
}

Result<PointRow> point_of(const Json& json, const std::string& where) {
  using enum PointStatus;
  PointRow row;
  row.point = text_of(json, "point");
  if (row.point.empty()) return bad_input(where + "/point", "is missing");
  PS_TRY(row.status, by_word(json, "status",
                             {kOk, kDiverged, kPropagated, kHealed, kNonfinite, kShape, kMissing,
                              kUnmatched, kIgnored},
                             where));
  row.step = integer_of(json, "step");
  row.rank = integer_of(json, "rank");
  row.dtype = text_of(json, "dtype");
  row.max_abs = number_of(json, "max_abs");
  row.rel_l2 = number_of(json, "rel_l2");
  row.max_ulp = integer_of(json, "max_ulp");
  row.ratio = number_of(json, "ratio");
  row.compared = integer_of(json, "compared");
  row.ignored = integer_of(json, "ignored");
  if (const Json* shape = json.find("shape"); shape != nullptr) {
    for (const Json& size : shape->items) {
      if (!size.is(Json::Kind::kInteger) || size.integer < 0) {
        return bad_input(where + "/shape", "must hold sizes", "", size.brief());
      }
      row.shape.push_back(size.integer);
    }
  }
  return row;
}

std::vector<std::pair<std::string, std::string>> fields_of(const Json& json,
                                                           std::string_view name) {
  std::vector<std::pair<std::string, std::string>> out;
  if (const Json* object = json.find(name); object != nullptr) {
    for (std::size_t i = 0; i < object->names.size(); ++i) {
      out.emplace_back(object->names[i], object->items[i].dump());
    }
  }
  return out;
}

Result<Json> open_report(const std::filesystem::path& path) {
  const std::string name = path.string();
  PS_TRY(const std::string text, read_text(path));
  PS_TRY(Json json, parse_json(text, name, kLimits));
  if (text_of(json, "format") != "parscope-report/1") {
    const Json* format = json.find("format");
    return bad_input(name, "is no report", "\"format\": \"parscope-report/1\"",
                     format == nullptr ? "" : format->brief());
  }
  return json;
}

Result<Report> findings_of(const Json& json, const std::string& name) {
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

}  // namespace

Result<Report> read_stored_findings(const std::filesystem::path& path) {
  PS_TRY(const Json json, open_report(path));
  return findings_of(json, path.string());
}

Result<Report> read_report(const std::filesystem::path& path) {
  PS_TRY(const Json json, open_report(path));
  PS_TRY(Report report, findings_of(json, path.string()));
  if (const Json* first = json.find("first_divergence");
      first != nullptr && first->is(Json::Kind::kObject)) {
    report.first_divergence = {integer_of(*first, "step"), integer_of(*first, "rank"),
                               text_of(*first, "point"), text_of(*first, "where")};
  }
  if (const Json* points = json.find("points"); points != nullptr) {
    for (std::size_t i = 0; i < points->items.size(); ++i) {
      const std::string where = path.string() + ": /points/" + std::to_string(i);
      PS_TRY(PointRow row, point_of(points->items[i], where));
      report.points.push_back(std::move(row));
    }
  }
  if (const Json* spots = json.find("blind_spots"); spots != nullptr) {
    for (const Json& spot : spots->items) {
      report.blind_spots.push_back({text_of(spot, "id"), text_of(spot, "why")});
    }
  }
  if (const double power = number_of(json, "power"); power == power) report.power = power;
  if (const Json* n = json.find("not_judged"); n != nullptr) {
    report.not_judged = {text_of(*n, "sample"), text_of(*n, "layers"), {}, text_of(*n, "rows")};
    if (const Json* points = n->find("points"); points != nullptr) {
      for (const Json& point : points->items) {
        report.not_judged->points.emplace_back(integer_of(point, "step"), text_of(point, "point"));
      }
    }
  }
  if (const Json* votes = json.find("replicas"); votes != nullptr) {
    PS_TRY(report.replicas, read_votes(*votes, path.string() + ": /replicas"));
  }
  report.environment = fields_of(json, "environment");
  report.inputs = fields_of(json, "inputs");
  report.timing = fields_of(json, "timing");
  return report;
}

}  // namespace ps
