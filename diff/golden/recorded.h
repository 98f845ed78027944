// Golden fixtures that users record of their own models (`golden record`): golden.json with where
// the values come from and a digest of each, and a trace with the inputs, and the values too
// unless only digests were asked for.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "core/trace.h"
#include "diff/golden/digest.h"
#include "diff/golden/golden.h"

namespace ps {

struct Provenance {
  std::string producer, source, command, commit, date, date_from, conversion, version;
};

using RecordedKey = std::tuple<std::int64_t, std::int64_t, std::string>;  // step, rank, point

struct RecordedGolden {
  Provenance provenance;
  bool digests_only = false;
  DType dtype = DType::kF32;  // of the run
  std::string model;          // relative to the golden's folder; may be empty
  std::map<RecordedKey, Digest> points;
};

std::string recorded_text(const RecordedGolden& golden);  // golden.json
Result<RecordedGolden> read_recorded(const std::filesystem::path& dir);

struct RecordRequest {
  Provenance provenance;
  bool digests_only = false;
  std::filesystem::path model;  // may be empty
  bool update = false;
  Packing packing;  // of the values
};
struct GoldenChange {
  std::string point;  // with step and rank where there are several
  std::string what;
};
struct RecordedResult {
  std::int64_t points = 0;
  bool existed = false, written = false;
  std::vector<GoldenChange> changes;  // against the golden that was there
};
// An older golden in `dir` is compared first, and replaced only with `update` or when nothing that
// its bounds would notice has changed.
Result<RecordedResult> record_golden(const Trace& trace, const std::filesystem::path& dir,
                                     const RecordRequest& request);

// The fixture itself (no stored number has changed), and an engine on its inputs where it names a
// model that is there. A sentence, or the first thing that is wrong.
Result<std::string> verify_recorded(const std::filesystem::path& dir, const GoldenOptions& options);
// Another run against it.
Result<std::string> verify_recorded_against(const std::filesystem::path& dir, const Trace& run);

}  // namespace ps
