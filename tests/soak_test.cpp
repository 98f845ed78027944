// 300 of ./dev soak's configurations on every run of the tests, in slices that run side by side.
#include "tests/support/soak.h"

#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace ps {
namespace {

class Soak : public ::testing::TestWithParam<int> {};

TEST_P(Soak, CleanRandomConfigurationsAreNeverCalledWrong) {
  for (int i = 0; i < 75; ++i) {
    const TempDir dir;
    const auto index = static_cast<std::uint64_t>(GetParam() * 75 + i);
    const SoakResult r = soak_one(20261121, index, dir.path());
    EXPECT_TRUE(r.equivalent) << index << ": " << r.trouble << "\n" << r.what;
  }
}

INSTANTIATE_TEST_SUITE_P(Slices, Soak, ::testing::Range(0, 4));

}  // namespace
}  // namespace ps
