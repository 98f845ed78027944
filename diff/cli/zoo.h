// The zoo: faults planted in the model (model/plants) of a random configuration, each run through
// the main job, and what came out held against what was planted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "diff/report/report.h"
#include "diff/run/script.h"
#include "model/candidate.h"

namespace ps::cli {

// A model and the run that is made with it.
struct ZooSubject {
  Model model;
  RunPlan plan;
  DType dtype = DType::kF32;
  std::string words;  // "qwen3 2 layers, ..."
};
// Configuration `index` of a seed; its model is written below `dir`. Families come in turn, so that
// sixteen configurations hold each of the eight in both types.
Result<ZooSubject> zoo_subject(std::uint64_t seed, std::uint64_t index, DType dtype,
                               const std::filesystem::path& dir);

enum class ZooVerdict : std::uint8_t {
  kNotApplicable,  // this model cannot have the fault
  kSilent,         // the run's values are those of the right model, bit for bit
  kWeak,           // they differ by less than 4 round-offs, and no finding says so
  kShown,
};

struct ZooRow {
  PlantInfo plant;  // id "clean" for the run without one
  std::uint64_t config = 0;
  DType dtype = DType::kF32;
  std::string words;
  ZooVerdict verdict = ZooVerdict::kNotApplicable;
  bool detected = false, located = false;
  bool named = false;        // the first error has the plant's id
  bool listed = false;       // it stands among those that this run cannot tell from the one named
  bool misnamed = false;     // another name, and the plant's own is not listed beside it
  std::string found;         // id of the first error; empty: none
  std::string point, truth;  // "step 1 lm_head": the report's first divergence, the first change
                             // of 4 round-offs or more in cells that count
  std::string born;          // any change before that: rounding, padding
  double strength = 0;       // of the first change in cells that count, in round-offs
  std::string message;       // of the first error, and the nearest hypotheses if it has no name
  double seconds = 0;
};

// The run without a plant, and what it computed: what the planted runs are held against.
class ZooCage {
 public:
  static Result<ZooCage> open(ZooSubject subject);
  ZooRow clean() const { return clean_; }
  Result<ZooRow> run(const PlantInfo& plant, std::uint64_t seed) const;
  const ZooSubject& subject() const { return subject_; }
  // The report of one planted run.
  Result<Report> report(const std::optional<PlantChoice>& plant, ZooRow& row) const;

 private:
  struct Values;
  explicit ZooCage(ZooSubject subject) : subject_(std::move(subject)) {}
  ZooSubject subject_;
  std::shared_ptr<Values> values_;
  ZooRow clean_;
};

// What the zoo asks of the tool that it measures.
struct ZooScore {
  std::int64_t planted = 0, shown = 0, weak = 0, detected = 0, located = 0, named = 0, listed = 0,
               misnamed = 0;
  void add(const ZooRow& row);
};
bool meets_limits(const std::vector<ZooRow>& rows);
std::string zoo_text(const std::vector<ZooRow>& rows, bool every_fault);
std::string zoo_json(const std::vector<ZooRow>& rows, std::uint64_t seed, std::int64_t configs);

}  // namespace ps::cli
