// The command line as a user meets it: words, help, exit codes, streams (spec cli.md).
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/program.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

const std::vector<std::string> kCommands = {
#define PS_COMMAND(name) #name,
#include "diff/cli/commands.def"
#undef PS_COMMAND
};

TEST(Cli, HelpIsOnStdoutAndListsEveryCommand) {
  for (const char* word : {"--help", "-h", "help"}) {
    const Ran ran = run_parscope({word});
    EXPECT_EQ(ran.code, 0) << word;
    EXPECT_EQ(ran.err, "") << word;
    for (const std::string& command : kCommands) {
      EXPECT_NE(ran.out.find("\n  " + command + " "), std::string::npos) << command;
    }
    EXPECT_NE(ran.out.find("exit codes: 0 "), std::string::npos);
  }
}

TEST(Cli, HelpOfACommandShowsUsageAndOptionsWhereverItIsAskedFor) {
  for (const std::string& command : kCommands) {
    const Ran ran = run_parscope({command, "--help"});
    EXPECT_EQ(ran.code, 0) << command;
    EXPECT_EQ(ran.err, "") << command;
    EXPECT_TRUE(ran.out.starts_with("usage: parscope " + command + " ")) << ran.out;
    const bool takes_none = command == "completions";
    EXPECT_EQ(ran.out.find("\noptions:\n") == std::string::npos, takes_none) << command;
    EXPECT_EQ(run_parscope({command, "-h"}).out, ran.out) << command;
    EXPECT_EQ(run_parscope({"help", command}).out, ran.out) << command;
    if (command == "launch") continue;  // what follows its words is another program's
    EXPECT_EQ(run_parscope({command, "/nowhere", "--quiet", "--help"}).out, ran.out) << command;
  }
}

TEST(Cli, LinesOfHelpFitATerminal) {
  std::vector<std::vector<std::string>> asked = {{"--help"}};
  for (const std::string& command : kCommands) asked.push_back({command, "--help"});
  for (const std::vector<std::string>& words : asked) {
    std::istringstream help(run_parscope(words).out);
    for (std::string line; std::getline(help, line);) EXPECT_LE(line.size(), 100u) << line;
  }
}

TEST(Cli, VersionIsOneLine) {
  const Ran ran = run_parscope({"--version"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_TRUE(ran.out.starts_with("parscope ")) << ran.out;
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1);
}

TEST(Cli, NoWordsAtAllShowTheHelpOnStderr) {
  const Ran ran = run_parscope({});
  EXPECT_EQ(ran.code, 2);
  EXPECT_EQ(ran.out, "");
  EXPECT_NE(ran.err.find("usage: parscope COMMAND"), std::string::npos);
}

struct Mistake {
  std::vector<std::string> words;
  std::string message;
};

TEST(Cli, MistypedWordsAreOneLineWithASuggestion) {
  const std::string model = bytes_model().string();
  const std::vector<Mistake> mistakes = {
      {{"trase"}, "unknown command trase; did you mean trace?"},
      {{"help", "lnit"}, "unknown command lnit; did you mean lint?"},
      {{"--versoin"}, "did you mean --version?"},
      {{"qwertyuiop"}, "unknown command qwertyuiop; see parscope --help"},
      {{"x\ny\x1b[31m"}, "unknown command x y?[31m"},
      {{""}, "unknown command"},
      {{"trace", model, "--stpes", "3"}, "unknown option --stpes; did you mean --steps?"},
      {{"lint", model, "--jsno"}, "did you mean --json?"},
      {{"lint", model, "--zzzzzzzzzzzz"}, "see parscope lint --help"},
      {{"lint", model, "-j"}, "unknown option -j"},
      {{"lint", model, "--json=yes"}, "--json: takes no value: found 'yes'"},
      {{"trace", model, "-o"}, "-o: needs a value: expected DIR"},
      {{"trace", model, "-o", "--prompt", "x"}, "-o: needs a value"},
      {{"trace", model, "-o", "/tmp/none", "--points", "lm_haed"}, "did you mean 'lm_head'?"},
  };
  for (const Mistake& m : mistakes) expect_bad_input(run_parscope(m.words), m.message);
}

TEST(Cli, MissingAndSurplusWordsShowTheUsage) {
  const std::vector<Mistake> mistakes = {
      {{"trace"}, "no MODEL_DIR; usage: parscope trace MODEL_DIR -o DIR"},
      {{"trace", "a"}, "no -o DIR"},
      {{"trace", "a", "-o", ""}, "no -o DIR"},
      {{"trace", "a", "b", "-o", "c"}, "one MODEL_DIR, not 2: 'a' and 'b'"},
      {{"generate"}, "no MODEL_DIR"},
      {{"generate", ""}, "MODEL_DIR is empty"},
      {{"lint"}, "no MODEL_DIR or TRACE"},
      {{"lint", "a", "b", "c"}, "not 3"},
      {{"golden"}, "no 'verify DIR'"},
      {{"golden", "verify"}, "no DIR"},
      {{"golden", "verify", "a", "b"}, "more than one DIR"},
      {{"golden", "dance", "a"}, "cannot 'dance', only 'verify'"},
  };
  for (const Mistake& m : mistakes) {
    const Ran ran = run_parscope(m.words);
    expect_bad_input(ran, m.message);
    EXPECT_NE(ran.err.find("; usage: parscope " + m.words[0]), std::string::npos) << ran.err;
  }
}

TEST(Cli, ValuesOutOfRangeNameTheRange) {
  const std::vector<Mistake> mistakes = {
      {{"--steps", "-1"}, "--steps: wrong number: expected a whole number from 0 to "},
      {{"--steps", "99999999999999999999"}, "found '99999999999999999999'"},
      {{"--steps", "3x"}, "found '3x'"},
      {{"--steps="}, "found ''"},
      {{"--steps", "1.5"}, "found '1.5'"},
      {{"--chunk", "0"}, "--chunk: wrong number: expected a whole number from 1 to "},
      {{"--beams", "0"}, "from 1 to 256"},
      {{"--beams", "257"}, "from 1 to 256"},
      {{"--threads", "-3"}, "--threads"},
      {{"--seed", "x"}, "--seed"},
      {{"--dtype", "f8"}, "--dtype: unknown type: expected f64, f32, bf16 or f16, found 'f8'"},
      {{"--dtype", "int32"}, "found 'int32'"},
      {{"--engine", "abacus"}, "--engine: unknown engine"},
      {{"--random", "3"}, "--random: wrong size: expected rows x tokens, such as 3x17"},
      {{"--random", "3x"}, "found '3x'"},
      {{"--random", "0x7"}, "found '0x7'"},
      {{"--random", "2x3x4"}, "found '2x3x4'"},
      {{"--random", "16777216x2"}, "at most 16777216 tokens"},
      {{"--prompt", ""}, "--prompt: empty"},
      {{"--prompt", "a", "--random", "2x3"}, "only one of them can be the prompt"},
      {{"--gradients", "mse"}, "expected next-token or sum, found mse"},
      {{"--gradients", "sum", "--steps", "2"}, "--gradients: is one pass over the whole prompt"},
      {{"--points", ""}, "'' is no point"},
  };
  const TempDir dir;
  for (const Mistake& m : mistakes) {
    std::vector<std::string> words = {"trace", bytes_model().string(), "-o", dir / "out"};
    words.insert(words.end(), m.words.begin(), m.words.end());
    expect_bad_input(run_parscope(words), m.message);
    EXPECT_FALSE(std::filesystem::exists(dir / "out")) << m.message;
  }
}

TEST(Cli, TwoDashesEndTheOptions) {
  expect_bad_input(run_parscope({"lint", "--", "--help"}), "--help: no such file or folder");
}

TEST(Cli, TheLastOfARepeatedOptionCounts) {
  PS_NEEDS_REFERENCE();
  const Ran ran = run_parscope({"generate", bytes_model().string(), "--engine", "reference",
                                "--prompt", "ab", "--new", "5", "--new=1", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(nlohmann::json::parse(ran.out)["sequences"][0].size(), 3u);
}

TEST(Cli, JsonIsOneDocumentAndNothingElse) {
  PS_NEEDS_REFERENCE();
  const std::string model = bytes_model().string();
  const std::string golden = fixtures_dir() / "golden/parscale/ps_n1_eager";
  const std::vector<std::vector<std::string>> asked = {
      {"lint", model, "--json"},
      {"lint", model, "--json", "--quiet"},
      {"generate", model, "--engine", "reference", "--prompt", "x", "--new", "2", "--json"},
      {"golden", "verify", golden, "--engine", "reference", "--json"},
  };
  for (const std::vector<std::string>& words : asked) {
    const Ran ran = run_parscope(words);
    EXPECT_EQ(ran.code, 0) << words[0] << ran.err;
    EXPECT_EQ(ran.err, "") << words[0];
    EXPECT_TRUE(nlohmann::json::accept(ran.out)) << ran.out;
    EXPECT_TRUE(nlohmann::json::parse(ran.out).is_object()) << ran.out;
  }
}

TEST(Cli, JsonOfAWrongModelIsAReportAndExitOne) {
  const TempDir dir;
  copy_bytes_model(dir / "m",
                   [](const std::string& name, Tensor&) { return name != "model.norm.weight"; });
  const Ran ran = run_parscope({"lint", dir / "m", "--json"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.err, "");
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["format"], "parscope-report/1");
  EXPECT_EQ(json["verdict"], "diverged");
  ASSERT_EQ(json["findings"].size(), 1u);
  EXPECT_EQ(json["findings"][0]["id"], "weights-silently-missing");
  EXPECT_EQ(json["findings"][0]["severity"], "error");
  EXPECT_EQ(json["findings"][0]["point"], "model.norm.weight");
}

TEST(Cli, LintsVerdictSaysWhatItsExitCodeSays) {
  const TempDir dir;
  copy_bytes_model(dir / "bad",
                   [](const std::string& name, Tensor&) { return name != "model.norm.weight"; });
  std::filesystem::create_directories(dir / "rule");
  auto config = nlohmann::json::parse(get_file(bytes_model() / "config.json"));
  config["parscale_attn_smooth"] = 2;
  put_file(dir / "rule" / "config.json", config.dump());  // and no weights: a warning beside it
  edit_tensors(bytes_model() / "model.safetensors", dir / "cache.safetensors",
               [](const std::string&, Tensor&) { return false; },
               {{"key_cache.1", Tensor(DType::kF32, {8, 2, 0, 32})}});
  for (const auto& [name, code] : std::map<std::string, int>{{bytes_model().string(), 0},
                                                             {dir / "bad", 1},
                                                             {dir / "rule", 1},
                                                             {dir / "cache.safetensors", 1}}) {
    const Ran ran = run_parscope({"lint", name, "--json"});
    EXPECT_EQ(ran.code, code) << name << ran.err;
    EXPECT_EQ(nlohmann::json::parse(ran.out)["verdict"], code == 0 ? "equivalent" : "diverged");
    const std::string text = run_parscope({"lint", name}).out;
    EXPECT_EQ(text.find(": diverged, ") != text.npos, code == 1) << text;
  }
}

TEST(Cli, JsonOfBadInputIsStillOneLineOnStderr) {
  expect_bad_input(run_parscope({"lint", "/nowhere", "--json"}), "/nowhere: no such file");
  expect_bad_input(run_parscope({"golden", "verify", "/nowhere", "--json"}), "no such folder");
}

TEST(Cli, QuietSaysNothingWhereNothingIsWrong) {
  const Ran clean = run_parscope({"lint", bytes_model().string(), "--quiet"});
  EXPECT_EQ(clean.code, 0);
  EXPECT_EQ(clean.out + clean.err, "");
  const TempDir dir;
  copy_bytes_model(dir / "m",
                   [](const std::string& name, Tensor&) { return name != "model.norm.weight"; });
  const Ran wrong = run_parscope({"lint", dir / "m", "--quiet"});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_NE(wrong.out.find("weights-silently-missing"), std::string::npos);
}

TEST(Cli, NoColourLeavesTheProgramWithoutATerminalOrAgainstNoColor) {
  for (const std::vector<std::string>& environment :
       {std::vector<std::string>{}, {"NO_COLOR=1"}, {"TERM=xterm-256color"}}) {
    const Ran ran = run_parscope({"lint", bytes_model().string()}, environment);
    EXPECT_EQ(ran.out.find('\x1b'), std::string::npos);
    EXPECT_EQ(ran.err.find('\x1b'), std::string::npos);
  }
}

#ifdef __linux__
// script(1) gives the program a terminal.
Ran run_on_terminal(const std::string& words, const std::vector<std::string>& environment) {
  return run_program({"/usr/bin/script", "-qec", parscope_program() + " " + words, "/dev/null"},
                     environment);
}

TEST(Cli, ColoursOfATerminalObeyNoColor) {
  if (!std::filesystem::exists("/usr/bin/script")) GTEST_SKIP() << "no script(1) here";
  const std::string words = "lint " + bytes_model().string();
  const Ran coloured = run_on_terminal(words, {"NO_COLOR="});
  EXPECT_EQ(coloured.code, 0) << coloured.err;
  EXPECT_NE(coloured.out.find("\x1b["), std::string::npos) << coloured.out;
  const Ran plain = run_on_terminal(words, {"NO_COLOR=1"});
  EXPECT_NE(plain.out.find("nothing wrong found"), std::string::npos) << plain.out;
  EXPECT_EQ(plain.out.find('\x1b'), std::string::npos) << plain.out;
}

TEST(Cli, LibTorchIsNotLinkedButOpenedWhenNeeded) {
  const Ran ran = run_parscope({"--help"}, {"LD_TRACE_LOADED_OBJECTS=1"});
  EXPECT_NE(ran.out.find("libc.so"), std::string::npos) << ran.out;
  for (const char* library : {"torch", "libc10", "parscope_reference", "openblas"}) {
    EXPECT_EQ(ran.out.find(library), std::string::npos) << ran.out;
  }
}

TEST(Cli, ResultsThatCannotBeWrittenAreTheMachinesFailure) {
  // The second prints more than a buffer holds: its first write fails, its last finds nothing left.
  for (const char* what : {"", "/model.safetensors"}) {
    const std::string lint = parscope_program() + " lint '" + bytes_model().string() + what + "' ";
    for (const char* stdout_is : {">/dev/full", ">&-"}) {
      const Ran ran = run_program({"/bin/sh", "-c", lint + stdout_is});
      EXPECT_EQ(ran.code, 3) << stdout_is;
      EXPECT_EQ(ran.lines_of_err(), 1) << ran.err;
    }
  }
}

TEST(Cli, AClosedStdoutIsNotWrittenIntoTheTrace) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  const std::string trace = parscope_program() + " trace '" + bytes_model().string() + "' -o '" +
                            std::string(dir / "t") + "' --engine reference --prompt abc ";
  EXPECT_EQ(run_program({"/bin/sh", "-c", trace + ">&- 2>&-"}).code, 3);
  const Ran lint = run_parscope({"lint", dir / "t"});
  EXPECT_EQ(lint.code, 0) << lint.out << lint.err;
}

// Said at once, before anything is read or run, with the first folder that is not there; and
// nothing is left behind.
TEST(Cli, OutputThatCannotBeWrittenIsFoundBeforeTheRun) {
  PS_NEEDS_REFERENCE();
  const std::string model = bytes_model().string();
  const std::string sparse = (fixtures_dir() / "golden/sparse/walk_basic_grad").string();
  const TempDir dir;
  put_file(dir / "file", "in the way");
  const std::string trace = dir / "t";
  ASSERT_EQ(run_parscope({"trace", model, "-o", trace, "--random", "1x4"}).code, 0);
  const std::vector<std::vector<std::string>> asked = {
      {"trace", model, "--random", "1x4", "-o"},
      {"check", model, "--random", "1x4", "--report"},
      {"diagnose", trace, "--model", model, "--report"},
      {"diagnose", trace, "--model", model, "--repro"},
      {"diff", trace, trace, "--report"},
      {"convert", trace, "-o"},
      {"golden", "record", trace, "-o"},
      {"probe", model, "-o"},
      {"mask", "show", "causal", "--size", "4", "--png"},
      {"sparse", "show", sparse, "--png"},
      {"sparse", "check", sparse, "--png"}};
  for (std::vector<std::string> words : asked) {
    words.emplace_back("/proc/absent/deep/out");  // nobody makes a folder there, root neither
    const Ran nowhere = run_parscope(words);
    expect_bad_input(nowhere, "/proc/absent/deep/out");
    EXPECT_NE(nowhere.err.find("no folder /proc/absent"), std::string::npos)
        << words[0] << " " << words[words.size() - 2] << ": " << nowhere.err;
    EXPECT_EQ(nowhere.out, "") << words[0];
    words.back() = dir / "file/out";
    const Ran blocked = run_parscope(words);
    expect_bad_input(blocked, words.back());
    EXPECT_EQ(blocked.out, "") << words[0];
  }
  // What is proved writable is not left there where the run fails after all.
  const std::string fresh = dir / "a/b/c";
  EXPECT_EQ(run_parscope({"trace", dir / "no_model", "-o", fresh}).code, 2);
  EXPECT_FALSE(std::filesystem::exists(dir / "a"));
}
#endif

TEST(Cli, AMissingReferenceIsExitThreeAndSaysTheRemedy) {
  const std::string model = bytes_model().string();
  const TempDir dir;
  put_file(dir / "no_library", "text");
  const std::vector<std::vector<std::string>> asked = {
      {"generate", model, "--engine", "reference", "--prompt", "x"},
      {"trace", model, "-o", dir / "t", "--engine", "reference", "--prompt", "x"},
      {"golden", "verify", "--engine", "reference", fixtures_dir() / "golden/parscale/ps_n1_eager"},
      {"golden", "verify", "--engine", "reference", fixtures_dir() / "golden/parscale/ps_n1_eager",
       "--json"},
  };
  for (const char* library : {"/nowhere", "no_library"}) {
    const std::string path = library[0] == '/' ? library : std::string(dir / library);
    for (const std::vector<std::string>& words : asked) {
      const Ran ran = run_parscope(words, {"PARSCOPE_REFERENCE=" + path});
      EXPECT_EQ(ran.code, 3) << words[0];
      EXPECT_EQ(ran.out, "") << words[0];
      EXPECT_EQ(ran.lines_of_err(), 1) << ran.err;
      EXPECT_NE(ran.err.find("./dev build"), std::string::npos) << ran.err;
    }
  }
  EXPECT_FALSE(std::filesystem::exists(dir / "t"));
}

TEST(Cli, LintNeedsNoReference) {
  EXPECT_EQ(run_parscope({"lint", bytes_model().string()}, {"PARSCOPE_REFERENCE=/nowhere"}).code,
            0);
}

}  // namespace
}  // namespace ps
