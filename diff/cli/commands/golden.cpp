// parscope golden verify DIR, parscope golden record TRACE -o DIR
#include "diff/golden/golden.h"

#include <array>
#include <cstdio>
#include <ctime>
#include <sys/stat.h>

#include "diff/cli/command.h"
#include "diff/cli/engines.h"
#include "diff/cli/foreign.h"
#include "diff/cli/output_probe.h"
#include "diff/cli/packing.h"
#include "diff/golden/recorded.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"--against", "TRACE", "verify: compare this run with the one recorded golden, run nothing"},
    kEngineOption,
    kDevice,
    kDType,
    kThreads,
    {"-o", "DIR", "record: the golden's folder"},
    {"--digest", "",
     "record: only digests and sampled values, about 2 KB a point of any size;\n"
     "a change anywhere in a value is still seen"},
    {"--model", "DIR", "record: the model; verify runs it again where it is there"},
    kNames,
    {"--producer", "TEXT", "record: what made the run; default: what the trace says"},
    {"--command", "TEXT", "record: the command that made it"},
    {"--commit", "TEXT", "record: the commit of the code that ran"},
    {"--date", "TEXT", "record: when it ran; default: when the input file was written"},
    {"--update", "", "record: replace a golden whose values have changed"},
    kCompress,
    {"--github", "", "GitHub annotations of failed cases"},
    kJson,
    kQuiet};

std::string case_line(const GoldenResult& r, bool color) {
  const char* mark = r.pass ? (color ? "\x1b[32mpass\x1b[0m" : "pass")
                            : (color ? "\x1b[31;1mFAIL\x1b[0m" : "FAIL");
  return std::string(mark) + "  " + r.name + "\n        " + r.message + "\n";
}

// ::error title=...::..., one a failed case; percent signs and line ends as GitHub wants them.
void annotate(const GoldenResult& r, bool to_stderr) {
  std::string message;
  for (const char c : r.message) {
    if (c == '%') {
      message += "%25";
    } else if (c == '\n') {
      message += "%0A";
    } else {
      message += c;
    }
  }
  std::fprintf(to_stderr ? stderr : stdout, "::error title=golden %s::%s\n", r.name.c_str(),
               message.c_str());
}

Result<int> against(const Arguments& arguments, const std::string& dir) {
  PS_TRY(const std::vector<GoldenCase> cases, find_golden_cases(dir));
  if (cases.size() != 1 || cases[0].kind != GoldenKind::kRecorded) {
    return bad_input(dir, "--against wants one recorded golden", "a folder with golden.json",
                     std::to_string(cases.size()) + " cases");
  }
  PS_TRY(const ConvertOptions how, convert_options(arguments));
  PS_TRY(const ForeignTrace run, ForeignTrace::open(arguments.get("--against"), how));
  tell_conversion(run, arguments.get("--against"));
  const Result<std::string> checked = verify_recorded_against(cases[0].path, run.trace());
  if (!checked.ok() && checked.error().kind == Error::Kind::kMachine) return checked.error();
  GoldenResult r{cases[0].name, "recorded", checked.ok(),
                 checked.ok() ? checked.value() : checked.error().line(), std::nullopt};
  const bool json = arguments.has("--json");
  if (json) {
    print(golden_json({r}));
  } else if (!arguments.has("--quiet") || !r.pass) {
    print(case_line(r, stdout_has_color()));
  }
  if (!r.pass && arguments.has("--github")) annotate(r, json);
  return r.pass ? 0 : 1;
}

Result<int> record_command(const Arguments& arguments) {
  const auto& words = arguments.positionals();
  if (words.size() != 2 || !arguments.has("-o")) {
    return wrong_usage(golden_command(),
                       words.size() != 2 ? "record wants one TRACE" : "record wants -o DIR");
  }
  PS_TRY_VOID(probe_output_dir(arguments.get("-o")));
  PS_TRY(const ConvertOptions how, convert_options(arguments));
  PS_TRY(const ForeignTrace run, ForeignTrace::open(words[1], how));
  tell_conversion(run, words[1]);
  RecordRequest request;
  request.digests_only = arguments.has("--digest");
  request.update = arguments.has("--update");
  PS_TRY(request.packing, packing_of(arguments));
  request.model = arguments.get("--model");
  Provenance& from = request.provenance;
  from.source = words[1];
  from.producer = arguments.get("--producer", run.trace().manifest().producer);
  if (from.producer.empty()) from.producer = "an unnamed producer";
  from.command = arguments.get("--command");
  from.commit = arguments.get("--commit");
  from.version = PS_VERSION;
  from.conversion = run.conversion() ? run.conversion()->sentence() : "";
  from.date = arguments.get("--date");
  from.date_from = "--date";
  if (from.date.empty()) {
    struct stat info{};
    std::array<char, 32> text{};
    struct tm utc{};
    if (::stat(words[1].c_str(), &info) == 0 && ::gmtime_r(&info.st_mtime, &utc) != nullptr) {
      std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    from.date = text.data();
    from.date_from = "the input's time of writing";
  }
  const std::string dir = arguments.get("-o");
  PS_TRY(const RecordedResult made, record_golden(run.trace(), dir, request));
  if (arguments.has("--json")) {
    std::string list;
    for (const GoldenChange& c : made.changes) {
      list += std::string(list.empty() ? "" : ", ") + "{\"point\": " + json_string(c.point) +
              ", \"what\": " + json_string(c.what) + "}";
    }
    print("{\"golden\": " + json_string(dir) + ", \"points\": " + std::to_string(made.points) +
          ", \"written\": " + (made.written ? "true" : "false") + ", \"changed\": [" + list +
          "]}\n");
    return made.written ? 0 : 1;
  }
  std::string out;
  for (const GoldenChange& c : made.changes) out += "changed  " + c.point + " " + c.what + "\n";
  if (!made.written) {
    print(out + dir + ": " + std::to_string(made.changes.size()) +
          (made.changes.size() == 1 ? " point has" : " points have") +
          " changed; the golden was left as it is (--update replaces it)\n");
    return 1;
  }
  if (!arguments.has("--quiet")) {
    out += dir + ": " + std::to_string(made.points) +
           (request.digests_only ? " digests" : " values") + " recorded" +
           (made.existed ? made.changes.empty() ? ", nothing had changed" : ", replaced" : "") +
           "\n";
  }
  print(out);
  return 0;
}

Result<int> run(const Arguments& arguments) {
  const auto& words = arguments.positionals();
  if (!words.empty() && words[0] == "record") return record_command(arguments);
  if (words.empty() || words[0] != "verify") {
    return wrong_usage(golden_command(),
                       words.empty() ? "no 'verify DIR'"
                                     : "cannot '" + words[0] + "', only 'verify' and 'record'");
  }
  if (words.size() != 2) {
    return wrong_usage(golden_command(), words.size() == 1 ? "no DIR" : "more than one DIR");
  }
  if (arguments.has("--against")) return against(arguments, words[1]);
  PS_TRY(const std::vector<GoldenCase> cases, find_golden_cases(words[1]));
  // The case decides type and convention, so the model's config is not at hand yet.
  ModelConfig any;
  PS_TRY(EngineChoice choice, engine_choice(arguments, any, "reference"));
  GoldenOptions options;
  options.is_reference = choice.reference;
  if (arguments.has("--dtype")) {
    options.dtypes = {choice.options.dtype};
    options.is_reference = false;  // one run in that type, against float64
  }
  options.open = [&choice](const Model& model, const EngineOptions& engine) {
    EngineChoice mine = choice;
    mine.options.dtype = engine.dtype;
    mine.options.empty_rows = engine.empty_rows;
    return open_engine(model, mine);
  };
  const bool json = arguments.has("--json"), quiet = arguments.has("--quiet");
  const bool color = stdout_has_color();
  std::vector<GoldenResult> results;
  std::int64_t failed = 0;
  {
    Progress progress("golden cases");
    for (const GoldenCase& golden : cases) {
      progress.update(static_cast<std::int64_t>(results.size()),
                      static_cast<std::int64_t>(cases.size()));
      results.push_back(verify_golden(golden, options));
      if (results.back().machine_failed) return *results.back().machine_failed;
      failed += results.back().pass ? 0 : 1;
      if (!results.back().pass && arguments.has("--github")) annotate(results.back(), json);
    }
  }
  if (json) {
    print(golden_json(results));
  } else {
    for (const GoldenResult& r : results) {
      if (!quiet || !r.pass) print(case_line(r, color));
    }
    print(std::to_string(static_cast<std::int64_t>(results.size()) - failed) + " passed, " +
          std::to_string(failed) + " failed\n");
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace

const Command& golden_command() {
  static const Command command{
      "golden",
      "checks an engine against stored outputs of independent implementations",
      "golden verify DIR | record TRACE -o DIR [options]",
      "Finds every case below DIR and runs it. The reference is held to 1e-12 of a tensor's scale "
      "in\n"
      "float64 and 1e-5 in float32; 16-bit runs to the rounding that their type explains.\n"
      "Rows that no key is visible to follow the case's producer and are counted.\n"
      "Tensor-parallel cases: plans with CRCs, shards bit for bit, points of simulated ranks in "
      "float64\nto 1e-12, and every planted fault named and placed; always by the reference.\n"
      "record makes a case of anyone's run: TRACE is what `diff` reads, other programs' files "
      "too.\n"
      "It keeps the values, or with --digest their digests, and where they come from. verify "
      "finds\n"
      "a number that was changed, runs the model again where there is one, and holds a new run to\n"
      "it with --against, within the bounds of `diff`. Recording over a golden says what "
      "changed.\n\n"
      "  parscope golden verify fixtures/golden\n"
      "  parscope golden verify fixtures/golden --dtype f32 --json\n"
      "  parscope golden record out/ -o golden/short-prompt --digest --commit $(git rev-parse "
      "HEAD)\n"
      "  parscope golden verify golden/short-prompt --against out/",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
