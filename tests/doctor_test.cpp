// `parscope doctor`: what is here, what is missing, and what it makes of GPUs that a stand-in for
// NVIDIA's driver has.
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/zstd.h"
#include "tests/support/program.h"

namespace ps {
namespace {

nlohmann::json line_of(const Ran& ran, const std::string& name) {
  const auto report = nlohmann::json::parse(ran.out);
  for (const auto& check : report["checks"]) {
    if (check["name"] == name) return check;
  }
  return {};
}

TEST(Doctor, SaysWhatIsHereAndWhatIsMissing) {
  PS_NEEDS_REFERENCE();
  const Ran good = run_parscope({"doctor", "--json"});
  ASSERT_EQ(good.code, 0) << good.out;
  EXPECT_EQ(nlohmann::json::parse(good.out)["ok"], true);
  EXPECT_EQ(line_of(good, "reference")["state"], "ok");
  EXPECT_NE(line_of(good, "LibTorch")["found"].get<std::string>().find("libtorch_cpu.so"),
            std::string::npos);
  EXPECT_FALSE(line_of(good, "GPU").is_null());
  EXPECT_EQ(line_of(good, "zstd")["state"], has_zstd() ? "ok" : "note");
  const Ran bad = run_parscope({"doctor", "--json"}, {"PARSCOPE_REFERENCE=/nowhere/x.so"});
  EXPECT_EQ(bad.code, 1);
  const auto missing = line_of(bad, "reference");
  EXPECT_EQ(missing["state"], "missing");
  EXPECT_FALSE(missing["fix"].get<std::string>().empty());
}

class StandInDriver : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string source = source_dir() + "/docs/examples/stand_in_driver.c";
    ASSERT_EQ(
        run_program({"/usr/bin/cc", "-shared", "-fPIC", "-o", dir_ / "libcuda.so.1", source}).code,
        0);
  }
  nlohmann::json gpu(std::vector<std::string> environment) {
    environment.push_back("LD_LIBRARY_PATH=" + dir_.path().string());
    const Ran ran = run_parscope({"doctor", "--json"}, environment);
    return line_of(ran, "GPU");
  }
  // Whether this build has kernels at all, and for which toolkit.
  static bool kernels() {
    return run_parscope({"doctor"}).out.find("CUDA kernels for sm") != std::string::npos;
  }
  TempDir dir_;
};

void expect_in(const nlohmann::json& line, const char* field, const std::string& words) {
  EXPECT_NE(line[field].get<std::string>().find(words), std::string::npos) << line;
}

TEST_F(StandInDriver, CardsThatKernelsRunOn) {
  const auto line = gpu({"STAND_IN_SM=90", "STAND_IN_CUDA=13020"});
  EXPECT_EQ(line["found"],
            "2 devices: Card 0 (sm_90, 139 GiB), Card 1 (sm_90, 139 GiB); driver for CUDA 13.2");
  EXPECT_EQ(line["state"], kernels() ? "ok" : "note");
  EXPECT_EQ(line["fix"].get<std::string>().empty(), kernels());
  // A kernel for sm_80 runs on sm_86, one for sm_90 does not run on sm_80 or sm_120.
  EXPECT_EQ(gpu({"STAND_IN_SM=86"})["state"], kernels() ? "ok" : "note");
}

TEST_F(StandInDriver, CardsWithoutKernelsInThisBuild) {
  for (const std::string sm : {"70", "120"}) {
    const auto line = gpu({"STAND_IN_SM=" + sm});
    EXPECT_EQ(line["state"], "note");
    expect_in(line, "fix", "no kernel of this program runs on sm_" + sm);
    expect_in(line, "fix", "-DPARSCOPE_CUDA_ARCHS=" + sm);
  }
}

TEST_F(StandInDriver, OlderThanTheRuntime) {
  if (!kernels()) GTEST_SKIP() << "built without CUDA: no runtime to be older than";
  const auto line = gpu({"STAND_IN_CUDA=12040"});
  EXPECT_EQ(line["state"], "note");
  expect_in(line, "found", "driver for CUDA 12.4");
  expect_in(line, "fix", "update NVIDIA's driver");
}

TEST_F(StandInDriver, NoDeviceIsVisible) {
  const auto hidden = gpu({"CUDA_VISIBLE_DEVICES="});
  EXPECT_EQ(hidden["state"], "note");
  EXPECT_EQ(hidden["found"], "a driver for CUDA 13.2, and no device: CUDA_VISIBLE_DEVICES is ''");
  expect_in(hidden, "fix", "unset it");
  expect_in(gpu({"CUDA_VISIBLE_DEVICES=-1"}), "found", "CUDA_VISIBLE_DEVICES is '-1'");
  if (std::getenv("CUDA_VISIBLE_DEVICES") != nullptr) return;  // it would be named here, too
  const auto none = gpu({"STAND_IN_INIT=100"});
  EXPECT_EQ(none["found"], "a driver for CUDA 13.2, and no device");
  expect_in(none, "fix", "in a container");
}

TEST_F(StandInDriver, ThatDoesNotStart) {
  const auto halves = gpu({"STAND_IN_INIT=803"});
  EXPECT_EQ(halves["found"], "a driver for CUDA 13.2 that does not start (cuInit: 803)");
  expect_in(halves, "fix", "different versions");
  expect_in(gpu({"STAND_IN_INIT=999"}), "fix", "nvidia-smi");
}

}  // namespace
}  // namespace ps
