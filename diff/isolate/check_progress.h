// What a check has judged so far, in a file beside its report: one line a point, each with its own
// checksum, below a line that pins what the check is of. A check that was killed goes on behind the
// last whole line; one of anything else is refused.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/own_run.h"
#include "core/result.h"
#include "diff/diagnose/power.h"
#include "diff/isolate/judge.h"
#include "diff/report/report.h"

namespace ps {

struct JudgedRecord {
  std::int64_t run = 0;  // 0: the given inputs, 1: inputs of our own
  PointRow row;
  StepJudge::Note note;
  PowerNews power;              // place empty: was not watched
  std::uint32_t candidate = 0;  // CRC-32 of the candidate's value
};

// Name and value of everything that a check's verdict follows from, in order.
using Pins = std::vector<std::pair<std::string, std::string>>;

// A line of the file, without its end. `where` names file and line.
std::string record_line(const JudgedRecord& record);
Result<JudgedRecord> read_record(std::string_view line, const std::string& where);

class CheckProgress {
 public:
  // `resume`: goes on with what the file holds, if there is one; else it begins anew. Nobody else
  // may use the file meanwhile.
  static Result<CheckProgress> open(const std::filesystem::path& file, const Pins& pins,
                                    bool resume);
  CheckProgress(CheckProgress&& other) noexcept;
  CheckProgress& operator=(CheckProgress&&) = delete;
  ~CheckProgress();

  std::size_t known() const { return known_; }  // points that an earlier process judged
  void begin_run(std::int64_t run) { run_ = run; }

  // What is known of the point that comes next, or nothing where it is to be judged. Error where
  // the file tells of another one, or the candidate's value is not what it was.
  Result<std::optional<JudgedRecord>> next(std::int64_t step, const std::string& point,
                                           const TensorView& candidate);
  Result<void> append(JudgedRecord record, const TensorView& candidate);

  // The reference's own run after `point`, beside the file. Kept when that costs little against the
  // time since it was last kept, and as long as nothing was found: what is wrong is judged again.
  bool wants_own_run() const;
  Result<void> keep_own_run(std::int64_t step, const std::string& point, const OwnRunState& state);
  struct KeptOwnRun {
    std::int64_t step = 0;
    OwnRunState state;
  };
  // That of the earlier process; nothing where it cannot be gone on from.
  std::optional<KeptOwnRun> kept_own_run() const;

  void done();  // the report is written: nothing is left behind

 private:
  CheckProgress() = default;
  Result<void> write(const std::string& line);
  bool knows(std::int64_t step, std::string_view point) const;  // of the given inputs
  std::filesystem::path own_run_file() const;

  std::filesystem::path file_;
  int fd_ = -1;
  std::uint32_t pins_ = 0;
  std::int64_t run_ = 0;
  std::deque<JudgedRecord> records_;
  std::size_t known_ = 0;
  bool all_plain_ = true, appended_ = false;
  std::chrono::steady_clock::time_point synced_, kept_;
  std::chrono::duration<double> keeping_{0};
};

}  // namespace ps
