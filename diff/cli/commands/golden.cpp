// parscope golden verify DIR
#include "diff/golden/golden.h"

#include <unistd.h>

#include "diff/cli/command.h"
#include "diff/cli/engines.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {kEngineOption, kDevice, kDType, kThreads, kJson, kQuiet};

std::string case_line(const GoldenResult& r, bool color) {
  const char* mark = r.pass ? (color ? "\x1b[32mpass\x1b[0m" : "pass")
                            : (color ? "\x1b[31;1mFAIL\x1b[0m" : "FAIL");
  return std::string(mark) + "  " + r.name + "\n        " + r.message + "\n";
}

Result<int> run(const Arguments& arguments) {
  const auto& words = arguments.positionals();
  if (words.empty() || words[0] != "verify") {
    return wrong_usage(golden_command(), words.empty()
                                             ? "no 'verify DIR'"
                                             : "cannot '" + words[0] + "', only 'verify'");
  }
  if (words.size() != 2) {
    return wrong_usage(golden_command(), words.size() == 1 ? "no DIR" : "more than one DIR");
  }
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
      "golden verify DIR [options]",
      "Finds every case below DIR and runs it. The reference is held to 1e-12 of a tensor's scale "
      "in\n"
      "float64 and 1e-5 in float32; 16-bit runs to the rounding that their type explains.\n"
      "Rows that no key is visible to follow the case's producer and are counted.\n"
      "Tensor-parallel cases: plans with CRCs, shards bit for bit, points of simulated ranks in "
      "float64\nto 1e-12, and every planted fault named and placed; always by the reference.\n\n"
      "  parscope golden verify fixtures/golden\n"
      "  parscope golden verify fixtures/golden --dtype f32 --json",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
