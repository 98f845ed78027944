#include "diff/report/baseline.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "core/file.h"
#include "core/json.h"
#include "diff/report/strip.h"

namespace ps {

namespace {

constexpr std::string_view kFormat = "parscope-report/1";
constexpr std::string_view kAccepted = "accepted_by_baseline";
constexpr JsonLimits kLimits = {.depth = 64, .values = std::int64_t{1} << 25};

struct Place {
  std::string point;
  std::int64_t step = 0;
  std::int64_t rank = 0;
  auto key() const { return std::tie(point, step, rank); }
  bool operator<(const Place& other) const { return key() < other.key(); }
};

struct KnownFinding {
  std::string id;
  Place place;
  std::string where;
  bool matters = false;  // an error, a warning, or one that an earlier baseline accepted
  bool used = false;
};

struct Known {
  bool diverged = false;
  std::vector<KnownFinding> findings;
  std::set<Place> bad_places;
};

// One object of the file; the first wrong field is kept.
class Object {
 public:
  Object(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json.is(Json::Kind::kObject)) wrong("", "must be an object", json);
  }
  std::string text(std::string_view name) {
    const Json* value = json_.find(name);
    if (value == nullptr || value->is(Json::Kind::kNull)) return {};
    if (!value->is(Json::Kind::kString)) wrong(name, "must be a string", *value);
    return value->text;
  }
  std::int64_t integer(std::string_view name) {
    const Json* value = json_.find(name);
    if (value == nullptr) return 0;
    if (!value->is(Json::Kind::kInteger)) wrong(name, "must be an integer", *value);
    return value->integer;
  }
  Place place() { return {text("point"), integer("step"), integer("rank")}; }
  bool has(std::string_view outer, std::string_view name) const {
    const Json* value = json_.find(outer);
    return value != nullptr && value->find(name) != nullptr;
  }
  Result<void> result() const { return error_ ? Result<void>(*error_) : Result<void>(); }

 private:
  void wrong(std::string_view name, std::string what, const Json& found) {
    if (error_) return;
    const std::string at = name.empty() ? where_ : where_ + "/" + std::string(name);
    error_ = bad_input(at, std::move(what), "", found.brief());
  }
  const Json& json_;
  std::string where_;
  std::optional<Error> error_;
};

// The items of an array that may be absent.
Result<const std::vector<Json>*> list(const Json& root, std::string_view name,
                                      const std::string& where) {
  static const std::vector<Json> kNone;
  const Json* value = root.find(name);
  if (value == nullptr) return &kNone;
  if (!value->is(Json::Kind::kArray)) {
    return bad_input(where + ": /" + std::string(name), "must be an array", "", value->brief());
  }
  return &value->items;
}

Result<void> read_findings(const Json& root, const std::string& where, Known& known) {
  PS_TRY(const std::vector<Json>* items, list(root, "findings", where));
  for (std::size_t i = 0; i < items->size(); ++i) {
    Object object((*items)[i], where + ": /findings/" + std::to_string(i));
    const std::string severity = object.text("severity");
    const bool accepted = object.has("evidence", kAccepted);
    KnownFinding finding{object.text("id"), object.place(), object.text("where")};
    finding.matters = accepted || severity != to_string(Severity::kInfo);
    PS_TRY_VOID(object.result());
    if (finding.id.empty()) {
      return bad_input(where + ": /findings/" + std::to_string(i) + "/id", "is missing");
    }
    if (finding.matters) known.bad_places.insert(finding.place);
    known.findings.push_back(std::move(finding));
  }
  return {};
}

Result<void> read_points(const Json& root, const std::string& where, Known& known) {
  PS_TRY(const std::vector<Json>* items, list(root, "points", where));
  constexpr std::array kBad = {PointStatus::kDiverged, PointStatus::kNonfinite,
                               PointStatus::kShape};
  for (std::size_t i = 0; i < items->size(); ++i) {
    Object object((*items)[i], where + ": /points/" + std::to_string(i));
    const std::string status = object.text("status");
    Place place = object.place();
    PS_TRY_VOID(object.result());
    const bool bad = std::any_of(kBad.begin(), kBad.end(),
                                 [&](PointStatus s) { return status == to_string(s); });
    if (bad) known.bad_places.insert(std::move(place));
  }
  return {};
}

Result<Known> read_baseline(const std::filesystem::path& path) {
  const std::string where = path.string();
  PS_TRY(const std::string text, read_text(path));
  PS_TRY(const Json root, parse_json(text, where, kLimits));
  const Json* format = root.find("format");
  if (format == nullptr || !format->is(Json::Kind::kString) || format->text != kFormat) {
    return bad_input(where, "is no baseline: an earlier report.json is wanted",
                     "\"format\": \"" + std::string(kFormat) + "\"",
                     format == nullptr ? "no format" : format->brief());
  }
  Known known;
  const Json* verdict = root.find("verdict");
  known.diverged = verdict != nullptr && verdict->text == to_string(Verdict::kDiverged);
  PS_TRY_VOID(read_findings(root, where, known));
  PS_TRY_VOID(read_points(root, where, known));
  return known;
}

std::string place_text(const Place& p) {
  return (p.point.empty() ? "no point" : p.point) + ", step " + std::to_string(p.step) + ", rank " +
         std::to_string(p.rank);
}

enum class Cells { kSame, kAny };

// The baseline's entry for this finding, not yet taken by another.
KnownFinding* match(Known& known, const Finding& f, Cells cells) {
  const auto it = std::find_if(known.findings.begin(), known.findings.end(), [&](auto& k) {
    return !k.used && k.id == f.id && k.place.point == f.point && k.place.step == f.step &&
           k.place.rank == f.rank && (cells == Cells::kAny || k.where == f.where);
  });
  return it == known.findings.end() ? nullptr : &*it;
}

void accept(Finding& f, const std::string& file) {
  f.evidence.emplace_back(kAccepted, json_string(file));
  f.evidence.emplace_back("severity_before", json_string(to_string(f.severity)));
  f.severity = Severity::kInfo;
}

}  // namespace

bool is_accepted(const Finding& finding) {
  return std::any_of(finding.evidence.begin(), finding.evidence.end(),
                     [](const auto& e) { return e.first == kAccepted; });
}

Result<Report> apply_baseline(Report report, const std::filesystem::path& path) {
  PS_TRY(Known known, read_baseline(path));
  BaselineUse use;
  use.file = path.string();
  std::vector<bool> done(report.findings.size(), false);
  for (const Cells cells : {Cells::kSame, Cells::kAny}) {  // those at the very same cells first
    for (std::size_t i = 0; i < report.findings.size(); ++i) {
      Finding& f = report.findings[i];
      KnownFinding* k = done[i] ? nullptr : match(known, f, cells);
      if (k == nullptr) continue;
      done[i] = k->used = true;
      // What was information only does not excuse an error.
      if (f.severity == Severity::kInfo || !k->matters) continue;
      accept(f, use.file);
      ++use.accepted;
    }
  }
  for (const KnownFinding& k : known.findings) {
    if (k.matters && !k.used) use.gone.push_back(k.id + " at " + place_text(k.place));
  }
  for (const PointRow& row : report.points) {
    const Place place{row.point, row.step, row.rank};
    if (!is_bad(row) || known.bad_places.contains(place)) continue;
    use.new_points.push_back(place_text(place));
  }
  if (report.verdict == Verdict::kDiverged && !known.diverged && use.accepted == 0 &&
      use.new_points.empty()) {
    use.new_points.emplace_back("the verdict: diverged here, not in the baseline");
  }
  report.baseline = std::move(use);
  return report;
}

}  // namespace ps
