// A trace of several tensor-parallel ranks as one: sharded points put together by the plan, and
// what the ranks must agree on, checked (tensor-parallel.md V5, V11, 3.3).
#pragma once

#include <filesystem>
#include <vector>

#include "core/finding.h"
#include "core/trace.h"
#include "diff/report/report.h"

namespace ps {

// Nothing to join: one rank, or ranks that are no tensor parallelism.
bool is_sharded(const Trace& trace);

// Writes the joined trace to `dir`. Findings: TP012 (ranks disagree), TP013, TP014 (a reduce is
// missing or scaled), TP015 (ranks issue different collectives), TP042 (a cache of all key/value
// heads on every rank). Partial sums are checked and not carried along.
Result<std::vector<Finding>> join_trace(const Trace& trace, const ModelConfig& config,
                                        const std::filesystem::path& dir);

// The joined trace in a folder of its own, gone with this object.
class JoinedTrace {
 public:
  // `trace` itself, in fact, where there is nothing to join. The model is the trace's own, else
  // `model`.
  static Result<JoinedTrace> of(Trace trace, const ModelConfig* model);
  JoinedTrace(JoinedTrace&&) noexcept = default;
  JoinedTrace& operator=(JoinedTrace&&) = delete;
  ~JoinedTrace();

  const Trace& trace() const { return trace_; }
  const std::vector<Finding>& findings() const { return findings_; }
  std::int64_t ranks() const { return ranks_; }  // that were joined; 1 for one

 private:
  JoinedTrace() = default;
  struct Folder;
  std::shared_ptr<Folder> folder_;
  Trace trace_;
  std::vector<Finding> findings_;
  std::int64_t ranks_ = 1;
};

// What the ranks said goes before what the comparison of the joined values says: it is closer to
// the cause.
void add_rank_findings(Report& report, const std::vector<Finding>& findings);

}  // namespace ps
