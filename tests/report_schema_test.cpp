// docs/schema holds what parscope writes: real reports and traces pass, changed ones do not. The
// checker knows the words of JSON Schema that the two files use, and fails on any other.
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/trace_extras.h"
#include "core/trace_manifest.h"
#include "tests/support/paths.h"
#include "tests/support/sample_report.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

using Json = nlohmann::json;

bool has_type(const Json& value, const std::string& type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  ADD_FAILURE() << "no such type: " << type;
  return false;
}

class Checker {
 public:
  explicit Checker(const Json& root) : root_(root) {}
  bool accepts(const Json& value) const { return fits(value, root_); }

 private:
  bool fits(const Json& value, const Json& schema) const {
    for (const auto& [word, rule] : schema.items()) {
      if (!holds(word, rule, value, schema)) return false;
    }
    return true;
  }

  bool holds(const std::string& word, const Json& rule, const Json& value,
             const Json& schema) const {
    static const std::set<std::string> kNotes = {"$schema", "$id", "title", "description", "$defs"};
    if (kNotes.contains(word)) return true;
    if (word == "$ref") {
      return fits(value, root_.at(Json::json_pointer(rule.get<std::string>().substr(1))));
    }
    if (word == "type") {
      if (rule.is_string()) return has_type(value, rule);
      return std::any_of(rule.begin(), rule.end(), [&](auto& t) { return has_type(value, t); });
    }
    if (word == "const") return value == rule;
    if (word == "enum") return std::find(rule.begin(), rule.end(), value) != rule.end();
    if (word == "anyOf") {
      return std::any_of(rule.begin(), rule.end(), [&](auto& s) { return fits(value, s); });
    }
    if (word == "minimum") return !value.is_number() || value >= rule;
    if (word == "maximum") return !value.is_number() || value <= rule;
    if (word == "minLength") {
      return !value.is_string() || value.get<std::string>().size() >= rule.get<std::size_t>();
    }
    if (word == "items") {
      return !value.is_array() ||
             std::all_of(value.begin(), value.end(), [&](auto& item) { return fits(item, rule); });
    }
    if (word == "required") {
      return !value.is_object() ||
             std::all_of(rule.begin(), rule.end(), [&](auto& n) { return value.contains(n); });
    }
    if (word == "properties") {
      if (!value.is_object()) return true;
      for (const auto& [name, inner] : rule.items()) {
        if (value.contains(name) && !fits(value[name], inner)) return false;
      }
      return true;
    }
    if (word == "additionalProperties") {
      if (!value.is_object()) return true;
      for (const auto& [name, inner] : value.items()) {
        if (schema.contains("properties") && schema["properties"].contains(name)) continue;
        if (rule.is_boolean() ? !rule.get<bool>() : !fits(inner, rule)) return false;
      }
      return true;
    }
    ADD_FAILURE() << "a word that this checker does not know: " << word;
    return false;
  }

  const Json& root_;
};

Json schema_of(const std::string& name) {
  const std::string text =
      get_file(std::filesystem::path(source_dir()) / "docs/schema" / (name + ".schema.json"));
  return Json::parse(text);
}

TEST(ReportSchema, WhatIsWrittenIsAccepted) {
  const Json schema = schema_of("report");
  const Checker checker(schema);
  Report r = sample_report();
  r.points[3].ratio = r.points[3].max_abs = std::numeric_limits<double>::quiet_NaN();
  r.points[4].rel_l2 = std::numeric_limits<double>::infinity();
  for (int status = 0; status <= static_cast<int>(PointStatus::kIgnored); ++status) {
    r.points[static_cast<std::size_t>(status)].status = static_cast<PointStatus>(status);
  }
  Report with_baseline = r;
  with_baseline.baseline = BaselineUse{"b.json", 1, {"x"}, {"y"}};
  Report sampled = r;
  sampled.not_judged = NotJudged{"every=2,rows=16",
                                 "layer 1",
                                 {{0, "model.layers.1"}},
                                 "all but 16 of 512 tokens of the projections"};
  Report invalid;
  invalid.verdict = Verdict::kInvalid;
  for (const Report& report : {r, with_baseline, sampled, invalid, Report{}}) {
    EXPECT_TRUE(checker.accepts(Json::parse(report_json(report)))) << report_json(report);
  }
}

TEST(ReportSchema, EveryBrokenReportIsRefused) {
  const Json schema = schema_of("report");
  const Checker checker(schema);
  const Json good = Json::parse(report_json(sample_report()));
  ASSERT_TRUE(checker.accepts(good));
  const std::vector<std::string> parts = {"", "/points/0", "/findings/0", "/first_divergence",
                                          "/blind_spots/0"};
  for (const std::string& part : parts) {
    for (const auto& [name, value] : good.at(Json::json_pointer(part)).items()) {
      Json without = good;
      without.at(Json::json_pointer(part)).erase(name);
      EXPECT_FALSE(checker.accepts(without)) << part << " without " << name;
      Json other = good;
      other.at(Json::json_pointer(part))[name] = true;
      EXPECT_FALSE(checker.accepts(other)) << part << "/" << name << " = true";
    }
  }
  const std::vector<std::pair<std::string, Json>> changes = {
      {"/format", "parscope-report/2"}, {"/verdict", "fine"},   {"/power", 1.5},
      {"/points/0/status", "bad"},      {"/points/0/step", -1}, {"/findings/0/severity", "fatal"},
      {"/points/0/shape", {1.5}},       {"/findings/0/id", ""}, {"/findings/0/confidence", "sure"}};
  for (const auto& [pointer, value] : changes) {
    Json other = good;
    other.at(Json::json_pointer(pointer)) = value;
    EXPECT_FALSE(checker.accepts(other)) << pointer;
  }
}

TEST(ReportSchema, VotesOfReplicasAreAcceptedWholeAndRefusedInPart) {
  const Json schema = schema_of("report");
  const Checker checker(schema);
  Report report = sample_report();
  ReplicaToken token;
  token.js = std::numeric_limits<double>::quiet_NaN();  // null
  token.weights = token.expected_weights = {0.25, 0.75};
  token.replica_argmax = token.without_argmax = token.expected_replica_argmax = {3, 4};
  token.top = {{3, 1.5, {1.0, 2.0}, {2.0, 1.0}}};
  report.replicas = ReplicaVotes{2, 0, {token}};
  const Json good = Json::parse(report_json(report));
  ASSERT_TRUE(checker.accepts(good));
  for (const std::string part : {"/replicas", "/replicas/tokens/0", "/replicas/tokens/0/top/0",
                                 "/replicas/tokens/0/expected"}) {
    for (const auto& [name, value] : good.at(Json::json_pointer(part)).items()) {
      Json without = good;
      without.at(Json::json_pointer(part)).erase(name);
      EXPECT_FALSE(checker.accepts(without)) << part << " without " << name;
      Json other = good;
      other.at(Json::json_pointer(part))[name] = true;
      EXPECT_FALSE(checker.accepts(other)) << part << "/" << name << " = true";
    }
  }
}

TEST(TraceSchema, WhatIsWrittenIsAcceptedAndWhatIsReadToo) {
  const Json schema = schema_of("trace");
  const Checker checker(schema);
  TraceManifest manifest;
  manifest.producer = "test";
  manifest.model_json = R"({"hidden_size": 48})";
  manifest.dtype = DType::kBF16;
  manifest.shards = {{"model.layers.*", 2}, {"lm_head", -1}};
  std::vector<TraceStep> steps(3);
  steps[0].file = "a.safetensors";
  steps[1].op = StepOp::kReorderCache;
  steps[1].beam_idx = {1, 0};
  steps[2].op = StepOp::kGenerate;
  steps[2].file = "b.safetensors";
  steps[2].max_new_tokens = 4;
  const Result<std::string> text = manifest_text(manifest, steps);
  ASSERT_TRUE(text.ok());
  EXPECT_TRUE(checker.accepts(Json::parse(text.value()))) << text.value();
  // The schema and the reader agree about each of these.
  const std::vector<std::pair<std::string, bool>> manifests = {
      {R"({"format": "parscope-trace/1", "steps": []})", true},
      {R"({"format": "parscope-trace/1", "steps": [{"file": "a"}]})", true},
      {R"({"format": "parscope-trace/1", "dtype": null, "steps": [{"file": "a"}]})", true},
      {R"({"format": "parscope-trace/2", "steps": []})", false},
      {R"({"steps": []})", false},
      {R"({"format": "parscope-trace/1", "steps": [{}]})", false},
      {R"({"format": "parscope-trace/1", "steps": [{"file": 1}]})", false},
      {R"({"format": "parscope-trace/1", "steps": [{"file": "a", "step": -1}]})", false},
      {R"({"format": "parscope-trace/1", "steps": [{"file": "a", "op": "x"}]})", false},
      {R"({"format": "parscope-trace/1", "steps": [{"op": "reorder_cache"}]})", false},
      {R"({"format": "parscope-trace/1", "steps": [], "world_size": 0})", false},
      {R"({"format": "parscope-trace/1", "steps": [], "shards": {"x": {}}})", false},
      {R"({"format": "parscope-trace/1", "steps": {}})", false},
      {R"({"format": "parscope-trace/1", "steps": [], "backends": null, "weights": null})", true},
      {R"({"format": "parscope-trace/1", "steps": [], "backends": [{"requested": "a"}]})", false},
      {R"({"format": "parscope-trace/1", "steps": [], "backends": {}})", false},
      {R"({"format": "parscope-trace/1", "steps": [], "backends": [{"requested": "a",
           "executed": "b", "layer": 1.5}]})",
       false},
      {R"({"format": "parscope-trace/1", "steps": [], "backends": [{"requested": "a",
           "executed": "b", "step": null, "reason": "why"}]})",
       true},
      {R"({"format": "parscope-trace/1", "steps": [], "weights": {"w": {"dtype": "float32",
           "shape": [2, 3], "crc32": "0357c450"}}})",
       true},
      {R"({"format": "parscope-trace/1", "steps": [], "weights": {"w": {"dtype": "float32",
           "shape": [2, 3], "crc32": "57c450"}}})",
       false},
      {R"({"format": "parscope-trace/1", "steps": [], "weights": {"w": {"dtype": "float32",
           "shape": [-1], "crc32": "0357c450"}}})",
       false},
  };
  for (const auto& [json, good] : manifests) {
    EXPECT_EQ(checker.accepts(Json::parse(json)), good) << json;
    const bool read = parse_manifest_text(json, "t", StepsField::kRequired).ok() &&
                      parse_trace_extras(json, "t").ok();
    EXPECT_EQ(read, good) << json;
  }
}

TEST(TraceSchema, FixturesAreAccepted) {
  const Json schema = schema_of("trace");
  const Checker checker(schema);
  int seen = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           std::filesystem::path(source_dir()) / "fixtures")) {
    if (entry.path().filename() != "trace.json") continue;
    ++seen;
    EXPECT_TRUE(checker.accepts(Json::parse(get_file(entry.path())))) << entry.path();
  }
  EXPECT_GT(seen, 0);
}

}  // namespace
}  // namespace ps
