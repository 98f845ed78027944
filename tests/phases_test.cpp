// What `--profile` shows: phases that add up, and a check that names where its time went.
#include "diff/run/phases.h"

#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/program.h"

namespace ps {
namespace {

double now = 0, held = 0;
double clock_of_test() { return now; }
double memory_of_test() { return held; }

double seconds(Phases& phases, Work work) {
  return phases.rows()[static_cast<std::size_t>(work)].seconds;
}

TEST(Phases, NestedWorkCountsForItsOwnNameOnly) {
  now = 100;
  Phases phases(clock_of_test, memory_of_test);
  now += 1;
  const Work outside = phases.enter(Work::kCandidate);
  EXPECT_EQ(outside, Work::kOther);
  held = 7;
  now += 2;
  const Work candidate = phases.enter(Work::kCompare);
  held = 5;
  now += 4;
  const Work compare = phases.enter(Work::kReference);
  now += 8;
  phases.enter(compare);
  now += 16;
  phases.enter(candidate);
  now += 32;
  phases.enter(outside);
  now += 64;
  EXPECT_EQ(seconds(phases, Work::kOther), 65);
  EXPECT_EQ(seconds(phases, Work::kCandidate), 34);
  EXPECT_EQ(seconds(phases, Work::kCompare), 20);
  EXPECT_EQ(seconds(phases, Work::kReference), 8);
  EXPECT_EQ(seconds(phases, Work::kProbe), 0);
  EXPECT_EQ(phases.rows()[static_cast<std::size_t>(Work::kCandidate)].bytes, 7);
  EXPECT_EQ(phases.rows()[static_cast<std::size_t>(Work::kCompare)].bytes, 5);
  const std::string table = phase_table(phases.rows());
  EXPECT_EQ(table.find("other"), table.find('\n') + 1) << table;
  EXPECT_NE(table.find("all          127.000 100.0%"), std::string::npos) << table;
}

TEST(Phases, WhatIsGoingOnCountsUpToTheQuestion) {
  now = 0;
  Phases phases(clock_of_test);
  now = 3;
  EXPECT_EQ(seconds(phases, Work::kOther), 3);
  EXPECT_EQ(seconds(phases, Work::kOther), 3);
}

TEST(Phases, OwnMemoryGrowsWithWhatIsTouched) {
  const double before = own_bytes();
  const std::string block(64 << 20, 'x');
  EXPECT_GT(own_bytes() - before, 60e6) << block.size();
}

// Every kind of work of a check has its time, and together they are the run's.
TEST(Phases, OfACheckAreInItsReport) {
  PS_NEEDS_REFERENCE();
  const Ran ran = run_parscope({"check", bytes_model().string(), "--device", "host", "--random",
                                "2x9", "--steps", "1", "--json", "--profile"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto timing = nlohmann::json::parse(ran.out)["timing"];
  double sum = 0;
  for (const char* name : {"open", "candidate", "reference", "keep", "compare", "probe"}) {
    const double part = timing.at("phase_" + std::string(name) + "_seconds").get<double>();
    EXPECT_GT(part, 0) << name;
    EXPECT_GT(timing.at("phase_" + std::string(name) + "_own_bytes").get<double>(), 0) << name;
    sum += part;
  }
  for (const char* name : {"other", "name", "report"}) {
    sum += timing.at("phase_" + std::string(name) + "_seconds").get<double>();
  }
  const double all =
      timing.at("open_seconds").get<double>() + timing.at("check_seconds").get<double>();
  EXPECT_NEAR(sum, all, 0.02 * all + 0.01);
  EXPECT_NE(ran.err.find("\ncandidate "), std::string::npos) << ran.err;
  EXPECT_NE(ran.err.find("\nall "), std::string::npos) << ran.err;
}

TEST(Phases, OfADiagnosisAreInItsReport) {
  PS_NEEDS_REFERENCE();
  const TempDir dir;
  const std::string model = bytes_model().string(), trace = dir / "t";
  ASSERT_EQ(run_parscope({"trace", model, "--device", "host", "--random", "1x7", "-o", trace}).code,
            0);
  const Ran ran = run_parscope({"diagnose", trace, "--model", model, "--json", "--profile"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto timing = nlohmann::json::parse(ran.out)["timing"];
  for (const char* name : {"open", "reference", "compare", "probe"}) {
    EXPECT_GT(timing.at("phase_" + std::string(name) + "_seconds").get<double>(), 0) << name;
  }
  EXPECT_EQ(timing.at("phase_candidate_seconds").get<double>(), 0) << "no engine runs";
}

}  // namespace
}  // namespace ps
