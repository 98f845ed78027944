// parscope diff CANDIDATE EXPECTED
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "diff/align/diff_traces.h"
#include "diff/cli/command.h"
#include "diff/cli/foreign.h"
#include "diff/cli/viewer_pictures.h"
#include "diff/report/baseline.h"
#include "diff/report/write.h"
#include "diff/shard/join_trace.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"--tolerance", "ATOL,RTOL", "allow ATOL + RTOL * |expected| a cell, instead of the default"},
    {"--allow-missing", "", "points that the candidate lacks are a warning"},
    {"--threads", "N", "threads; default 0: one a core"},
    kNames,
    {"--model", "DIR", "sizes of heads, where --names or another program's file needs them"},
    {"--report", "DIR", "write report.json, .md, .html, junit.xml, sarif.json and pictures"},
    {"--github", "", "GitHub annotations and a step summary"},
    {"--baseline", "FILE", "accept the findings of an earlier report.json, fail on new ones"},
    kJson,
    kQuiet};

Result<double> tolerance_number(const std::string& text, const std::string& all) {
  char* end = nullptr;
  const double x = std::strtod(text.c_str(), &end);
  const bool good = !text.empty() && *end == '\0' && std::isfinite(x) && x >= 0;
  if (good && text.find_first_of("xXpP \t") == std::string::npos) return x;
  return bad_input("--tolerance", "wrong number", "ATOL,RTOL, such as 1e-5,1.3e-6",
                   "'" + all + "'");
}

Result<std::pair<double, double>> tolerance(const std::string& text) {
  const std::size_t comma = text.find(',');
  if (comma == std::string::npos) {
    return bad_input("--tolerance", "needs both numbers", "ATOL,RTOL, such as 1e-5,1.3e-6",
                     "'" + text + "'");
  }
  PS_TRY(const double atol, tolerance_number(text.substr(0, comma), text));
  PS_TRY(const double rtol, tolerance_number(text.substr(comma + 1), text));
  return std::pair{atol, rtol};
}

struct JoinedPair {
  JoinedTrace candidate, expected;
};

// Ranks are put together on both sides, so that any number of them can be compared with any other.
// The model is either trace's.
Result<JoinedPair> join_pair(Trace candidate, Trace expected) {
  std::optional<ModelConfig> config;
  for (const Trace* trace : {&candidate, &expected}) {
    if (config || trace->manifest().model_json.empty()) continue;
    PS_TRY(ParsedConfig parsed, parse_config(trace->manifest().model_json, "trace.json/model"));
    const Result<ModelConfig> good = first_error_or_config(std::move(parsed), "trace.json/model");
    if (good.ok()) config = good.value();
  }
  PS_TRY(JoinedTrace mine, JoinedTrace::of(std::move(candidate), config ? &*config : nullptr));
  PS_TRY(JoinedTrace other, JoinedTrace::of(std::move(expected), config ? &*config : nullptr));
  return JoinedPair{std::move(mine), std::move(other)};
}

Result<int> run(const Arguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<std::string>& words = arguments.positionals();
  if (words.size() != 2) {
    return wrong_usage(diff_command(), words.size() < 2 ? "needs CANDIDATE and EXPECTED"
                                                        : "too many arguments: " + words[2]);
  }
  DiffOptions options;
  if (arguments.has("--tolerance")) {
    PS_TRY(options.tolerance, tolerance(arguments.get("--tolerance")));
  }
  options.allow_missing = arguments.has("--allow-missing");
  PS_TRY(const std::int64_t threads, arguments.integer("--threads", 0, 0, 1024));
  options.threads = static_cast<int>(threads);
  ReportOptions files;
  files.github = arguments.has("--github");
  files.artifact = words[0];
  if (arguments.has("--json")) files.annotations = stderr;
  if (arguments.has("--report")) {
    files.dir = arguments.get("--report");
    PS_TRY_VOID(prepare_report_dir(files.dir));
  }
  options.divergence = [&](const PointRow& row, const std::function<double(std::int64_t)>& ratio) {
    if (files.dir.empty() || files.pictures.size() >= 3) return;
    ErrorGridBuilder builder(row.shape);
    for (std::int64_t i = 0; i < count_of(row.shape); ++i) builder.add(i, ratio(i));
    files.pictures.push_back({row.step, row.rank, row.point, row.shape, builder.grid()});
  };
  PS_TRY(ConvertOptions how, convert_options(arguments));
  PS_TRY(ForeignTrace candidate, ForeignTrace::open(words[0], how));
  how.names.clear();  // --names is the candidate's; the other's are recognised
  PS_TRY(ForeignTrace expected, ForeignTrace::open(words[1], how));
  tell_conversion(candidate, words[0]);
  tell_conversion(expected, words[1]);
  PS_TRY(const JoinedPair joined, join_pair(candidate.take(), expected.take()));
  Report report = diff_traces(joined.candidate.trace(), joined.expected.trace(), options);
  add_rank_findings(report, joined.candidate.findings());
  note_conversion(candidate, "candidate_conversion", report);
  note_conversion(expected, "expected_conversion", report);
  report.environment.emplace_back("version", json_string(PS_VERSION));
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  report.timing.emplace_back("total_s", std::to_string(taken.count()));
  if (arguments.has("--baseline")) {
    PS_TRY(report, apply_baseline(std::move(report), arguments.get("--baseline")));
  }
  const std::string subject = words[0] + " against " + words[1];
  files.more = viewer_pictures;
  if (!files.dir.empty() || files.github) PS_TRY_VOID(write_reports(report, subject, files));
  const bool quiet = arguments.has("--quiet");
  if (arguments.has("--json")) {
    print(report_json(report));
  } else if (!quiet || exit_code(report) != 0) {
    TextStyle style;
    style.color = stdout_has_color();
    style.quiet = quiet;
    print(report_text(report, subject, style));
  }
  return exit_code(report);
}

}  // namespace

const Command& diff_command() {
  static const Command command{
      "diff",
      "compares two traces or files of tensors, point by point",
      "diff CANDIDATE EXPECTED [options]",
      "Without --tolerance a point is ok when its relative L2 error is at most c u sqrt(layers + "
      "1)\nand every cell is within 8 times that of max(|expected|, rms): c = 32 in float32 and "
      "float64, 3\nin 16-bit types, u the unit round-off of the coarser type.\n"
      "A point that EXPECTED has and CANDIDATE lacks is an error. Padding, and rows that see no "
      "key,\nare not compared. Runs that cannot be compared (other tokens, another phase, a stale "
      "or\nall-zero capture) are refused with the reason: exit code 2. A trace of tensor-parallel "
      "ranks is\n"
      "joined first: ranks that should agree must (TP012), partial sums must add up (TP013, "
      "TP014).\n\n"
      "  parscope diff candidate/ expected/\n"
      "  parscope diff candidate.safetensors expected.safetensors --tolerance 1e-5,1.3e-6\n"
      "  parscope diff vllm-dump/ expected/ --names vllm --model MODEL",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
