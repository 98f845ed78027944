// What a test of one's own engine looks like. The folders come from the environment here, so that
// parscope's CI can run the example; a real test writes its trace first.
#include <cstdlib>
#include <parscope/gtest.h>
#include <string>

#include <gtest/gtest.h>

namespace {

std::string folder(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

TEST(MyEngine, ComputesWhatItComputedBefore) {
  EXPECT_EQUIVALENT(folder("MY_TRACE"), folder("MY_EXPECTED"));
}

TEST(MyEngine, ComputesWhatTheModelSays) {
  if (folder("MY_MODEL").empty()) GTEST_SKIP() << "no MY_MODEL";
  EXPECT_EQUIVALENT_TO_MODEL(folder("MY_TRACE"), folder("MY_MODEL"));
}

}  // namespace
