// A run of another program as a trace: names by rules, axes in the order of the table of points,
// flattened batches and paged caches as rows. Values are moved, never changed.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/trace.h"
#include "diff/foreign/names.h"
#include "diff/foreign/read.h"

namespace ps {

struct ConvertOptions {
  std::string names;                  // --names: a preset or a file; empty: recognise
  std::optional<ModelConfig> config;  // sizes of heads; else the trace's own
  std::optional<StepInputs> tokens;   // of the first step, where the run does not hold them
  Packing packing;                    // of the trace that is written
};

struct Conversion {
  std::string names;        // the rules that were used; empty: none were needed
  bool recognised = false;  // by the names themselves
  std::int64_t steps = 0, points = 0;
  std::int64_t renamed = 0;                    // values that got another name
  std::int64_t split = 0;                      // fused values that were cut
  std::int64_t arranged = 0;                   // values whose axes were moved
  std::vector<std::string> unmatched;          // names that no rule and no table knows; kept
  std::map<std::string, std::string> misfits;  // name: why its axes stayed as they were
  std::vector<std::string> notes;
  std::string sentence() const;  // what was done, in one line
};

Result<Conversion> convert(const ForeignRun& run, const std::string& source,
                           const ConvertOptions& options, const std::filesystem::path& dir);

// Whether a run can be used as it is: a trace in parscope's own names.
bool needs_conversion(const ForeignRun& run, const ConvertOptions& options);

// What `diff`, `diagnose` and `lint` read: a trace as it is, or one converted into a folder that is
// gone with this object. The trace says the path that the user named.
class ForeignTrace {
 public:
  static Result<ForeignTrace> open(const std::filesystem::path& path,
                                   const ConvertOptions& options);
  const Trace& trace() const { return trace_; }
  Trace take() { return std::move(trace_); }
  const std::optional<Conversion>& conversion() const { return conversion_; }
  const std::filesystem::path& path() const { return path_; }  // of the trace that is read

 private:
  struct Folder;
  std::shared_ptr<Folder> folder_;
  std::filesystem::path path_;
  Trace trace_;
  std::optional<Conversion> conversion_;
};

}  // namespace ps
