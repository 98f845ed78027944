// .ci/gpu where there is no GPU: each missing piece is one line and exit 3, and with stand-ins for
// the machine's programs a skipped test fails, a refused sanitizer does not, and the report says
// so.
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/fixtures.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

// A tree that holds the script alone, and a machine made of shell scripts.
class GpuScript : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(root_ / ".ci");
    fs::copy_file(fs::path(source_dir()) / ".ci/gpu", root_ / ".ci/gpu");
    program("nvidia-smi", "echo 'NVIDIA Stand-in, 580.1, 9.0, 1 MiB'");
    program("cuda/bin/nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'");
    program("cmake", "echo cmake version 4.0.1");
    program("ninja", "echo 1.13.0");
    program("g++", "echo 13.2.0");
    put(machine_ / "torch/version.py", "__version__ = '2.11.0+cu130'\n");
    put(machine_ / "torch/lib/libtorch_cpu.so", "");
    fs::create_directories(machine_ / "torch/include/ATen");
  }
  static void put(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  static void script(const fs::path& path, const std::string& text) {
    put(path, "#!/bin/bash\n" + text + "\n");
    fs::permissions(path, fs::perms::owner_all);
  }
  void program(const std::string& name, const std::string& text) const {
    script(machine_ / name, text);
  }
  Ran run(std::vector<std::string> steps, const std::vector<std::string>& settings = {}) const {
    const std::string machine = machine_.path();
    std::vector<std::string> words{"/usr/bin/env",
                                   "-i",
                                   "PATH=" + machine + ":/usr/bin:/bin",
                                   "CUDA_HOME=" + machine + "/cuda",
                                   "PARSCOPE_TORCH=" + machine + "/torch",
                                   "PARSCOPE_GPU_SYS=system"};
    words.insert(words.end(), settings.begin(), settings.end());
    words.insert(words.end(), {"bash", root_ / ".ci/gpu"});
    words.insert(words.end(), steps.begin(), steps.end());
    return run_program(std::move(words));
  }
  void expect_missing(const std::string& what,
                      const std::vector<std::string>& settings = {}) const {
    const auto before = contents(root_.path());
    for (const char* step : {"build", "test", "sanitize", "bench", "report"}) {
      const Ran ran = run({step}, settings);
      EXPECT_EQ(ran.code, 3) << step;
      EXPECT_EQ(ran.out, "") << step;
      EXPECT_EQ(ran.lines_of_err(), 1) << step << "\n" << ran.err;
      EXPECT_NE(ran.err.find(what), std::string::npos) << step << "\n" << ran.err;
    }
    EXPECT_EQ(contents(root_.path()), before);
  }
  // What the step's fake programs need to count as built.
  void pretend_built(const std::string& results) const {
    const fs::path tree = root_ / "build/gpu/tree";
    script(tree / "parscope_tests", "for a; do case $a in --gtest_output=json:*) echo '" + results +
                                        "' >\"${a#--gtest_output=json:}\" ;; esac; done");
    script(tree / "parscope",
           "while (($#)); do if [[ $1 == -o ]]; then mkdir -p $2; echo x >$2/step0.safetensors; "
           "fi; shift; done");
    script(tree / "bench_model", "echo tiny/P1/cuda/prefill");
    fs::create_directories(root_ / "fixtures/models/one");
  }
  TempDir root_, machine_;
};

constexpr const char* kPassed =
    R"({"testsuites":[{"name":"Cuda","testsuite":[{"name":"A","status":"RUN","result":"COMPLETED"}]}]})";
constexpr const char* kSkipped =
    R"({"testsuites":[{"name":"Cuda","testsuite":[{"name":"A","status":"RUN","result":"COMPLETED"},)"
    R"({"name":"B","status":"RUN","result":"SKIPPED"}]}]})";

TEST_F(GpuScript, IsABashScriptWithHelp) {
  EXPECT_EQ(run_program({"/bin/bash", "-n", root_ / ".ci/gpu"}).code, 0);
  const Ran help = run({"help"});
  EXPECT_EQ(help.code, 0);
  for (const char* step : {"build", "test", "sanitize", "bench", "report", "pack"})
    EXPECT_NE(help.out.find(std::string("\n  ") + step), std::string::npos) << step;
  const Ran unknown = run({"tset"});
  EXPECT_EQ(unknown.code, 3);
  EXPECT_NE(unknown.err.find("no step 'tset'"), std::string::npos);
}

TEST_F(GpuScript, NoGpuIsOneLineAndNothingIsWritten) {
  program("nvidia-smi", "exit 9");
  expect_missing("no GPU: nvidia-smi fails");
}

TEST_F(GpuScript, OldCudaIsOneLine) {
  program("cuda/bin/nvcc", "echo 'Cuda compilation tools, release 12.8, V12.8.90'");
  expect_missing("is CUDA 12.8.90: 13 is needed");
}

TEST_F(GpuScript, NoTorchOrAnOldOneIsOneLine) {
  expect_missing("has no lib/libtorch_cpu.so", {"PARSCOPE_TORCH=/nonexistent"});
  put(machine_ / "torch/version.py", "__version__ = '2.9.1'\n");
  expect_missing("is torch 2.9.1: 2.11 is needed");
  program("python3", "exit 1");
  expect_missing("python3 has no torch", {"PARSCOPE_TORCH="});
}

TEST_F(GpuScript, NoLibrariesIsOneLine) {
  expect_missing("Run ./dev gpu pack elsewhere", {"PARSCOPE_GPU_SYS=pack"});
}

TEST_F(GpuScript, OldToolsAreOneLine) {
  program("python3", "exit 1");  // its packages hold no newer one
  program("cmake", "echo cmake version 3.22.1");
  expect_missing("no cmake 3.28 or newer");
  program("cmake", "echo cmake version 3.28.0");
  program("g++", "echo 9");
  expect_missing("is version 9: 11 is needed");
}

TEST_F(GpuScript, ReportNeedsAStepThatRan) {
  const auto before = contents(root_.path());
  const Ran ran = run({"report"});
  EXPECT_EQ(ran.code, 3);
  EXPECT_NE(ran.err.find("no step has run here"), std::string::npos) << ran.err;
  EXPECT_EQ(contents(root_.path()), before);
}

TEST_F(GpuScript, DryRunNamesTheCommandsAndWritesNothing) {
  pretend_built(kPassed);
  program("compute-sanitizer", "exit 1");
  const auto before = contents(root_.path());
  const Ran ran = run({"--dry-run"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  for (const char* part : {"-DPARSCOPE_CUDA_ARCHS=90 ", "--gtest_filter=Cuda.*", "--dtype bf16",
                           "--tool racecheck", "--benchmark_filter=^tiny/", "report.md"})
    EXPECT_NE(ran.out.find(part), std::string::npos) << part << "\n" << ran.out;
  EXPECT_EQ(contents(root_.path()), before);
}

TEST_F(GpuScript, ASkippedCudaTestIsAFailure) {
  pretend_built(kSkipped);
  const Ran ran = run({"test", "report"});
  EXPECT_EQ(ran.code, 1) << ran.err;
  EXPECT_NE(ran.out.find("test cuda: failed (1 ran, 0 failed, 1 skipped: skipped: Cuda.B)"),
            std::string::npos)
      << ran.out << ran.err;
  const std::string report = get_file(root_ / "tests/gpu/report.md");
  EXPECT_NE(report.find("## test: failed"), std::string::npos) << report;
  EXPECT_NE(report.find("## sanitize: not run on these sources"), std::string::npos) << report;
}

TEST_F(GpuScript, ACrashIsAFailure) {
  pretend_built(kPassed);
  script(root_ / "build/gpu/tree/parscope_tests", "kill -SEGV $$");
  const Ran ran = run({"test"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.out.find("test cuda: failed (0 ran, 1 failed, 0 skipped: no results"),
            std::string::npos)
      << ran.out;
}

TEST_F(GpuScript, OtherBitsTheSecondTimeAreAFailure) {
  pretend_built(kPassed);
  script(root_ / "build/gpu/tree/parscope",
         "while (($#)); do if [[ $1 == -o ]]; then mkdir -p $2; echo $RANDOM$$ "
         ">$2/step0.safetensors; fi; shift; done");
  const Ran ran = run({"test"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.out.find("test twice-one-f32: failed"), std::string::npos) << ran.out;
}

TEST_F(GpuScript, ARefusedSanitizerIsReportedAndARaceFails) {
  pretend_built(kPassed);
  program("compute-sanitizer", "echo '========= Error: Device not supported'; exit 1");
  const Ran refused = run({"test", "sanitize", "report"});
  EXPECT_EQ(refused.code, 0) << refused.out << refused.err;
  EXPECT_NE(refused.out.find("sanitize racecheck-ops: refused"), std::string::npos) << refused.out;
  const std::string report = get_file(root_ / "tests/gpu/report.md");
  EXPECT_NE(report.find("| memcheck-products | refused | ========= Error: Device not supported |"),
            std::string::npos)
      << report;
  EXPECT_NE(report.find("| device | NVIDIA Stand-in |"), std::string::npos) << report;
  EXPECT_NE(get_file(root_ / "tests/gpu/report.json").find("\"driver\": \"580.1\""),
            std::string::npos);

  program("compute-sanitizer",
          "if [[ $* == *racecheck* ]]; then echo '========= Error: Race reported between Write'; "
          "exit 9; fi; echo '========= ERROR SUMMARY: 0 errors'");
  const Ran race = run({"sanitize"});
  EXPECT_EQ(race.code, 1);
  EXPECT_NE(race.out.find("sanitize racecheck-ops: failed"), std::string::npos) << race.out;
  EXPECT_NE(race.out.find("sanitize memcheck-ops: ok"), std::string::npos) << race.out;

  // Results of other sources are not reported.
  put(root_ / "core/new.cpp", "");
  const Ran stale = run({"report"});
  EXPECT_NE(stale.out.find("sanitize not run on these sources"), std::string::npos) << stale.out;
}

}  // namespace
}  // namespace ps
