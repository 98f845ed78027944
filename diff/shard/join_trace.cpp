#include "diff/shard/join_trace.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <stdlib.h>

#include "core/same_bytes.h"
#include "core/trace_extras.h"
#include "diff/compare/closeness.h"
#include "diff/run/record.h"
#include "diff/shard/join.h"
#include "diff/shard/ledgers.h"
#include "diff/shard/rank_sums.h"

namespace ps {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPartial = ":partial";

bool is_input(std::string_view name) {
  return name == "input_ids" || name == "attention_mask" || name == "position_ids" ||
         name == "input_mask";
}

Finding rank_finding(const TraceStep& step, std::string id, std::string point, std::int64_t rank) {
  Finding f;
  f.id = std::move(id);
  f.fault_class = "shard";
  f.step = step.step;
  f.rank = rank;
  f.point = std::move(point);
  return f;
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", x);
  return text;
}

using Parts = std::vector<TensorView>;

class Joiner {
 public:
  Joiner(const Trace& trace, const ModelConfig& config, TraceWriter& writer)
      : trace_(trace),
        config_(config),
        writer_(writer),
        share_(rank_share(config, trace.manifest().tensor_parallel)) {}

  Result<void> run() {
    std::map<std::int64_t, std::vector<const TraceStep*>> steps;
    for (const TraceStep& step : trace_.steps()) steps[step.step].push_back(&step);
    for (auto& [number, ranks] : steps) PS_TRY_VOID(step(number, ranks));
    return {};
  }
  std::vector<Finding> findings;

 private:
  // Of several groups of tensor-parallel ranks, which compute the same function of what may be
  // other tokens, the first.
  Result<void> one_group(std::vector<const TraceStep*>& ranks) {
    const auto count = static_cast<std::int64_t>(ranks.size());
    if (count == share_.tp) return {};
    if (count % share_.tp != 0) {
      return bad_input(trace_.path().string(), "its ranks are no groups of tensor_parallel",
                       "a multiple of " + std::to_string(share_.tp) + " ranks",
                       std::to_string(count));
    }
    ranks.resize(static_cast<std::size_t>(share_.tp));
    if (said_groups_) return {};
    said_groups_ = true;
    Finding f = rank_finding(*ranks[0], "rank-groups", "", share_.tp);
    f.severity = Severity::kInfo;
    f.message = "ranks " + std::to_string(share_.tp) + " to " + std::to_string(count - 1) +
                " are other groups of tensor_parallel = " + std::to_string(share_.tp) +
                ": the first group is looked at";
    findings.push_back(std::move(f));
    return {};
  }

  Result<void> step(std::int64_t number, std::vector<const TraceStep*> ranks) {
    for (std::int64_t r = 0; r < share_.tp; ++r) {
      const bool there = r < static_cast<std::int64_t>(ranks.size()) &&
                         ranks[static_cast<std::size_t>(r)]->rank == r;
      if (there) continue;
      return bad_input(
          trace_.path().string(),
          "step " + std::to_string(number) + " has no file of rank " + std::to_string(r),
          "a file of each of " + std::to_string(share_.tp) + " ranks",
          std::to_string(ranks.size()));
    }
    PS_TRY_VOID(one_group(ranks));
    TraceStep joined = *ranks[0];
    joined.rank = 0;
    joined.file.clear();
    for (const TraceStep* rank : ranks) {
      if (!rank->tensors->metadata().contains("mask_program")) continue;
      return bad_input(rank->tensors->where() + ": metadata mask_program",
                       "is read in a trace of one rank only", "a tensor input_mask");
    }
    PS_TRY_VOID(writer_.begin_step(joined, nullptr));
    for (const auto& entry : ranks[0]->tensors->entries()) {
      PS_TRY_VOID(point(*ranks[0], entry.name, ranks));
    }
    lone_points(*ranks[0], ranks);
    return writer_.end_step();
  }

  void lone_points(const TraceStep& first, const std::vector<const TraceStep*>& ranks) {
    std::set<std::string> said;
    for (const TraceStep* rank : ranks) {
      for (const auto& entry : rank->tensors->entries()) {
        const bool lone = first.tensors->find(entry.name) == nullptr;
        if (lone && !entry.name.ends_with(kPartial) && said.insert(entry.name).second) {
          left_out(first, entry.name, 0);
        }
      }
    }
  }

  void left_out(const TraceStep& step, const std::string& name, std::int64_t rank) {
    Finding f = rank_finding(step, "TP012", name, rank);
    f.severity = Severity::kWarning;
    f.message = "rank " + std::to_string(rank) + " has no such point; it is left out";
    findings.push_back(std::move(f));
  }

  // Ranks of a group read the same tokens.
  void inputs(const TraceStep& step, const std::string& name, const Parts& parts) {
    for (std::size_t r = 1; r < parts.size(); ++r) {
      if (same_bytes(parts[0], parts[r])) continue;
      Finding f = rank_finding(step, "TP012", name, static_cast<std::int64_t>(r));
      f.message = "ranks 0 and " + std::to_string(r) + " were given other " + name +
                  ": what they compute cannot agree";
      f.fix = "broadcast the batch from one rank, or give every rank of the group the same";
      findings.push_back(std::move(f));
      return;
    }
  }

  std::optional<std::int64_t> declared(const std::string& name) const {
    for (const ShardSpec& spec : trace_.manifest().shards) {
      if (matches(spec.pattern, name)) return spec.dim;
    }
    return std::nullopt;
  }

  Result<void> point(const TraceStep& first, const std::string& name,
                     const std::vector<const TraceStep*>& ranks) {
    if (name.ends_with(kPartial)) return {};
    Parts parts;
    for (const TraceStep* rank : ranks) {
      const TensorView* view = rank->tensors->find(name);
      if (view == nullptr && is_input(name)) continue;  // the same on every rank: one is enough
      if (view == nullptr) {
        left_out(first, name, rank->rank);
        return {};
      }
      parts.push_back(*view);
    }
    if (is_input(name) && parts.size() == ranks.size()) inputs(first, name, parts);
    if (is_input(name) || name.starts_with("grad/")) return writer_.add(name, parts[0]);
    const Result<JoinedPoint> result = join_point(name, parts, config_, share_, declared(name));
    if (!result.ok()) {
      Finding f = rank_finding(first, "TP001", name, 0);
      f.message = result.error().line();
      if (cache_has_all_heads(name, parts[0])) f.id = "TP042";
      findings.push_back(std::move(f));
      return {};
    }
    if (cache_has_all_heads(name, parts[0])) {
      Finding f = rank_finding(first, "TP042", name, 0);
      f.where = "axis 1";
      f.message = "axis 1 is heads: " + std::to_string(share_.kv_heads) +
                  " expected on a rank of " + std::to_string(share_.tp) + ", " +
                  std::to_string(parts[0].shape[1]) + " found: every rank caches all of them";
      findings.push_back(std::move(f));
    }
    if (result->disagree) disagree(first, name, *result, parts);
    if (!result->sharded) sums(first, name, parts, ranks);
    return writer_.add(name, result->value.view());
  }

  bool cache_has_all_heads(const std::string& name, const TensorView& part) const {
    return (name.ends_with(":k_cache") || name.ends_with(":v_cache")) && part.shape.size() == 4 &&
           part.shape[1] == config_.kv_heads && share_.kv_heads != config_.kv_heads;
  }

  void disagree(const TraceStep& step, const std::string& name, const JoinedPoint& joined,
                const Parts& parts) {
    const auto [a, b] = *joined.disagree;
    Finding f = rank_finding(step, "TP012", name, b);
    const TensorView& x = parts[static_cast<std::size_t>(a)];
    const TensorView& y = parts[static_cast<std::size_t>(b)];
    f.where = index_text(x.shape, joined.cell);
    f.message = "ranks " + std::to_string(a) + " and " + std::to_string(b) +
                " must hold the same " + (joined.sharded ? "key/value heads" : "value") +
                " and differ in " + std::to_string(joined.differing) + " of " +
                std::to_string(x.count()) + " cells, first " + cell_text(y, x, joined.cell);
    f.confidence = Confidence::kConsistent;
    f.fix = "a reduce that not every rank took part in, or replicated weights that differ";
    findings.push_back(std::move(f));
  }

  // A reduced value is the sum of the ranks' partial sums.
  void sums(const TraceStep& step, const std::string& name, const Parts& full,
            const std::vector<const TraceStep*>& ranks) {
    Parts partials;
    for (const TraceStep* rank : ranks) {
      const TensorView* view = rank->tensors->find(name + std::string(kPartial));
      if (view == nullptr || view->shape != full[0].shape) return;
      partials.push_back(*view);
    }
    // Where a bias is added after the reduce, the sum alone is less than the value by it.
    const bool may_add_bias = (config_.o_bias && name.ends_with(".o_proj")) ||
                              (config_.mlp_bias && name.ends_with(".down_proj"));
    for (std::size_t r = 0; r < full.size(); ++r) {
      if (r > 0 && same_bytes(full[r], full[r - 1])) continue;  // else the work is ranks squared
      const SumCheck sum = check_sum(partials, full[r]);
      const bool may_be_bias = may_add_bias && !sum.scaled && sum.own < 0;
      if (sum.equal || (may_be_bias && off_by_one_row(partials, full[r]))) continue;
      Finding f = rank_finding(step, "TP013", name, static_cast<std::int64_t>(r));
      f.where = index_text(full[r].shape, sum.cell);
      const auto tp = static_cast<double>(share_.tp);
      if (sum.own >= 0) {
        f.message = "the reduce is missing: rank " + std::to_string(r) + "'s value is rank " +
                    std::to_string(sum.own) + "'s own partial sum";
      } else if (sum.scaled) {
        f.id = "TP014";
        f.message = "is " + number(sum.factor) + " times the sum of the ranks' partial sums";
        if (std::fabs(sum.factor * tp - 1) < 1e-3) f.message += " (1/tp): averaged, not summed";
        if (std::fabs(sum.factor / tp - 1) < 1e-3) f.message += " (tp): summed once too often";
        f.evidence = {{"factor", number(sum.factor)}, {"tp", std::to_string(share_.tp)}};
      } else {
        f.id = "TP012";
        f.message = "is not the sum of the ranks' partial sums";
      }
      findings.push_back(std::move(f));
      return;  // the other ranks show the same
    }
  }

  const Trace& trace_;
  const ModelConfig& config_;
  TraceWriter& writer_;
  RankShare share_;
  bool said_groups_ = false;
};

}  // namespace

bool is_sharded(const Trace& trace) { return trace.manifest().tensor_parallel > 1; }

Result<std::vector<Finding>> join_trace(const Trace& trace, const ModelConfig& config,
                                        const fs::path& dir) {
  const std::int64_t tp = trace.manifest().tensor_parallel;
  const auto wrong = rejections(head_sizes(config), tp);
  if (!wrong.empty()) {
    return bad_input(trace.path().string() + " at tp " + std::to_string(tp),
                     wrong[0].code + ": " + wrong[0].rule);
  }
  TraceManifest manifest = trace.manifest();
  manifest.tensor_parallel = manifest.world_size = 1;
  manifest.shards.clear();
  manifest.dtype = trace.run_dtype();
  PS_TRY(TraceWriter writer, TraceWriter::create(dir, std::move(manifest)));
  Joiner joiner(trace, config, writer);
  PS_TRY_VOID(joiner.run());
  PS_TRY_VOID(writer.close());
  PS_TRY_VOID(carry_manifest(trace, dir));
  PS_TRY(const std::vector<StepLedger> ledgers, read_ledgers(trace.path()));
  for (Finding& f : ledger_findings(ledgers)) joiner.findings.push_back(std::move(f));
  return std::move(joiner.findings);
}

struct JoinedTrace::Folder {
  fs::path path;
  ~Folder() {
    std::error_code ignored;
    if (!path.empty()) fs::remove_all(path, ignored);
  }
};

JoinedTrace::~JoinedTrace() = default;

Result<JoinedTrace> JoinedTrace::of(Trace trace, const ModelConfig* model) {
  JoinedTrace out;
  if (!is_sharded(trace)) {
    out.trace_ = std::move(trace);
    return out;
  }
  out.ranks_ = trace.manifest().tensor_parallel;
  ModelConfig config;
  if (!trace.manifest().model_json.empty()) {
    PS_TRY(ParsedConfig parsed, parse_config(trace.manifest().model_json, "trace.json/model"));
    PS_TRY(config, first_error_or_config(std::move(parsed), "trace.json/model"));
  } else if (model != nullptr) {
    config = *model;
  } else {
    return bad_input(trace.path().string(), "its ranks cannot be joined without the model",
                     "trace.json with model, the config.json");
  }
  std::string name = (fs::temp_directory_path() / "parscope-joined-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    return machine_error(name, "a folder for the joined trace cannot be made");
  }
  out.folder_ = std::make_shared<Folder>(Folder{name});
  PS_TRY(out.findings_, join_trace(trace, config, fs::path(name) / "trace"));
  PS_TRY(out.trace_, Trace::open(fs::path(name) / "trace"));
  return out;
}

namespace {

// Inputs come before all that is computed.
bool before(const FirstDivergence& a, const FirstDivergence& b) {
  if (a.step != b.step) return a.step < b.step;
  if (is_input(a.point) != is_input(b.point)) return is_input(a.point);
  return point_before(a.point, b.point);
}

int doubt(Confidence confidence) {
  return confidence == Confidence::kExact ? 0 : confidence == Confidence::kConsistent ? 1 : 2;
}

}  // namespace

void add_rank_findings(Report& report, const std::vector<Finding>& findings) {
  for (const Finding& f : findings) {
    if (f.severity != Severity::kError) continue;
    if (report.verdict == Verdict::kEquivalent) report.verdict = Verdict::kDiverged;
    const FirstDivergence here{f.step, f.rank, f.point, f.where};
    if (!report.first_divergence || before(here, *report.first_divergence)) {
      report.first_divergence = here;
    }
  }
  // What is said of the first divergence goes first, the surest of it in front, names that replays
  // gave before what the ranks show. Of all else the ranks come first.
  std::vector<std::pair<int, Finding>> all;
  const auto take = [&](const Finding& f, bool by_replay) {
    const bool here = report.first_divergence && f.severity == Severity::kError &&
                      f.step == report.first_divergence->step &&
                      f.point == report.first_divergence->point;
    const int place = here ? 2 * doubt(f.confidence) + (by_replay ? 0 : 1) : by_replay ? 7 : 6;
    all.emplace_back(place, f);
  };
  for (const Finding& f : findings) take(f, false);
  for (const Finding& f : report.findings) take(f, true);
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  report.findings.clear();
  for (auto& [place, f] : all) report.findings.push_back(std::move(f));
}

}  // namespace ps
