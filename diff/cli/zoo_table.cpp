// What the zoo prints: scores by fault, class and type, and whether they are good enough.
#include <cstdio>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "diff/cli/zoo.h"

namespace ps::cli {

namespace {

using Json = nlohmann::ordered_json;

// Shares of what a run could show.
constexpr double kLocated = 0.98, kNamedF32 = 0.95, kNamedShort = 0.85, kMisnamed = 0.01;

std::string_view word(PlantSort sort) {
  return sort == PlantSort::kListed ? "listed" : sort == PlantSort::kBenign ? "benign" : "invented";
}
std::string_view word(ZooVerdict verdict) {
  constexpr std::string_view kWords[] = {"not applicable", "silent", "weak", "shown"};
  return kWords[static_cast<std::size_t>(verdict)];
}

std::string percent(std::int64_t part, std::int64_t whole) {
  if (whole == 0) return "-";
  char text[16];
  std::snprintf(text, sizeof text, "%.1f%%",
                100.0 * static_cast<double>(part) / static_cast<double>(whole));
  return text;
}

std::string line(const std::string& name, const ZooScore& s) {
  char text[200];
  std::snprintf(text, sizeof text, "%-40s %7lld %6lld %9s %8s %7s %7s %9s\n", name.c_str(),
                static_cast<long long>(s.planted), static_cast<long long>(s.shown),
                percent(s.detected, s.shown).c_str(), percent(s.located, s.shown).c_str(),
                percent(s.named, s.shown).c_str(), percent(s.listed, s.shown).c_str(),
                percent(s.misnamed, s.shown).c_str());
  return text;
}

Json json_of(const ZooScore& s) {
  return {{"planted", s.planted},   {"shown", s.shown},      {"weak", s.weak},
          {"detected", s.detected}, {"located", s.located},  {"named", s.named},
          {"listed", s.listed},     {"misnamed", s.misnamed}};
}

// One score for each key of rows of one sort.
template <class Key>
std::map<std::string, ZooScore> by(const std::vector<ZooRow>& rows, PlantSort sort,
                                   const Key& key) {
  std::map<std::string, ZooScore> out;
  for (const ZooRow& row : rows)
    if (row.plant.sort == sort && row.plant.id != "clean") out[std::string(key(row))].add(row);
  return out;
}

std::int64_t false_alarms(const std::vector<ZooRow>& rows, bool clean, std::int64_t& runs) {
  std::int64_t wrong = 0;
  for (const ZooRow& row : rows) {
    if (row.plant.sort != PlantSort::kBenign || (row.plant.id == "clean") != clean) continue;
    if (row.verdict == ZooVerdict::kNotApplicable) continue;
    ++runs;
    wrong += row.detected ? 1 : 0;
  }
  return wrong;
}

bool at_least(std::int64_t part, std::int64_t whole, double share) {
  return static_cast<double>(part) >= share * static_cast<double>(whole);
}

}  // namespace

void ZooScore::add(const ZooRow& row) {
  if (row.verdict == ZooVerdict::kNotApplicable) return;
  ++planted;
  weak += row.verdict == ZooVerdict::kWeak ? 1 : 0;
  if (row.verdict != ZooVerdict::kShown) return;
  ++shown;
  detected += row.detected ? 1 : 0;
  located += row.located ? 1 : 0;
  named += row.named ? 1 : 0;
  listed += row.listed ? 1 : 0;
  misnamed += row.misnamed ? 1 : 0;
}

bool meets_limits(const std::vector<ZooRow>& rows) {
  std::int64_t runs = 0;
  if (false_alarms(rows, true, runs) + false_alarms(rows, false, runs) > 0) return false;
  const auto type = [](const ZooRow& row) { return short_name(row.dtype); };
  for (const auto& [name, s] : by(rows, PlantSort::kListed, type)) {
    if (s.detected < s.shown || !at_least(s.located, s.shown, kLocated)) return false;
    if (!at_least(s.named + s.listed, s.shown, name == "f32" ? kNamedF32 : kNamedShort))
      return false;
    if (at_least(s.misnamed, s.shown, kMisnamed) && s.misnamed > 0) return false;
  }
  for (const auto& [name, s] : by(rows, PlantSort::kInvented, type)) {
    if (s.detected < s.shown || !at_least(s.located, s.shown, kLocated) || s.misnamed > 0)
      return false;
  }
  return true;
}

std::string zoo_text(const std::vector<ZooRow>& rows, bool every_fault) {
  char head[200];
  std::snprintf(head, sizeof head, "%-40s %7s %6s %9s %8s %7s %7s %9s\n", "", "planted", "shown",
                "detected", "located", "named", "listed", "misnamed");
  std::string out = head;
  const auto table = [&](PlantSort sort, const auto& key, const std::string& before) {
    for (const auto& [name, s] : by(rows, sort, key)) out += line(before + name, s);
  };
  const auto type = [](const ZooRow& row) { return short_name(row.dtype); };
  if (every_fault) {
    table(PlantSort::kListed, [](const ZooRow& row) { return row.plant.id; }, "");
    table(PlantSort::kInvented, [](const ZooRow& row) { return row.plant.id; }, "");
    out += "\n";
  }
  table(PlantSort::kListed, [](const ZooRow& row) { return row.plant.fault_class; }, "class ");
  table(PlantSort::kListed, type, "all listed, ");
  table(PlantSort::kInvented, type, "invented, to stay unnamed, ");
  for (const bool clean : {true, false}) {
    std::int64_t runs = 0;
    const std::int64_t wrong = false_alarms(rows, clean, runs);
    out += std::string(clean ? "clean runs" : "benign differences") + ": " + std::to_string(runs) +
           ", called wrong: " + std::to_string(wrong) + "\n";
  }
  std::set<std::string> seen, all;
  for (const ZooRow& row : rows) {
    if (row.plant.sort != PlantSort::kListed) continue;
    all.emplace(row.plant.id);
    if (row.verdict == ZooVerdict::kShown) seen.emplace(row.plant.id);
  }
  std::string never;
  for (const std::string& id : all)
    if (!seen.contains(id)) never += (never.empty() ? "" : ", ") + id;
  if (!never.empty()) out += "shown by none of these runs: " + never + "\n";
  std::string bad;
  for (const ZooRow& row : rows) {
    const bool benign = row.plant.sort == PlantSort::kBenign;
    const bool listed = row.plant.sort == PlantSort::kListed;
    if (row.verdict == ZooVerdict::kNotApplicable) continue;
    const bool wrong =
        benign ? row.detected
               : row.verdict == ZooVerdict::kShown &&
                     (!row.located || row.misnamed || (listed && !row.named && !row.listed));
    if (!wrong) continue;
    bad += "  " + std::string(row.plant.id) + (row.words.empty() ? "" : " (" + row.words + ")") +
           ", configuration " + std::to_string(row.config) + " in " +
           std::string(short_name(row.dtype)) + ": " +
           (row.found.empty() ? "nothing found" : row.found + " at " + row.point) +
           (row.truth.empty() || row.truth == row.point ? "" : "; changed first: " + row.truth) +
           "\n";
  }
  if (!bad.empty()) out += "\nnot as they should be:\n" + bad;
  return out;
}

std::string zoo_json(const std::vector<ZooRow>& rows, std::uint64_t seed, std::int64_t configs) {
  Json out = {{"format", "parscope-zoo/1"},
              {"seed", seed},
              {"configs", configs},
              {"passed", meets_limits(rows)}};
  const auto type = [](const ZooRow& row) { return short_name(row.dtype); };
  for (const PlantSort sort : {PlantSort::kListed, PlantSort::kInvented}) {
    for (const auto& [name, s] : by(rows, sort, type)) out[word(sort)][name] = json_of(s);
  }
  for (const auto& [name, s] :
       by(rows, PlantSort::kListed, [](const ZooRow& row) { return row.plant.fault_class; }))
    out["classes"][name] = json_of(s);
  for (const auto& [name, s] :
       by(rows, PlantSort::kListed, [](const ZooRow& row) { return row.plant.id; }))
    out["faults"][name] = json_of(s);
  std::int64_t runs = 0;
  out["clean"] = {{"called_wrong", false_alarms(rows, true, runs)}, {"runs", runs}};
  runs = 0;
  out["benign"] = {{"called_wrong", false_alarms(rows, false, runs)}, {"runs", runs}};
  out["cases"] = Json::array();
  for (const ZooRow& row : rows) {
    if (row.verdict == ZooVerdict::kNotApplicable) continue;
    out["cases"].push_back({{"id", row.plant.id},
                            {"class", row.plant.fault_class},
                            {"sort", row.plant.id == "clean" ? "clean" : word(row.plant.sort)},
                            {"variant", row.words},
                            {"config", row.config},
                            {"dtype", short_name(row.dtype)},
                            {"verdict", word(row.verdict)},
                            {"detected", row.detected},
                            {"located", row.located},
                            {"named", row.named},
                            {"listed", row.listed},
                            {"misnamed", row.misnamed},
                            {"found", row.found},
                            {"message", row.message},
                            {"point", row.point},
                            {"truth", row.truth},
                            {"strength", row.strength},
                            {"seconds", row.seconds}});
  }
  return out.dump(1) + "\n";
}

}  // namespace ps::cli
