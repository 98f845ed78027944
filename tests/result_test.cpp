#include "core/result.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

namespace ps {
namespace {

Result<int> half(int x) {
  if (x % 2 != 0) return bad_input("number", "cannot be halved", "an even one", std::to_string(x));
  return x / 2;
}
Result<int> quarter(int x) {
  PS_TRY(const int once, half(x));
  PS_TRY(const int twice, half(once));
  return twice;
}
Result<void> must_be_even(int x) {
  PS_TRY_VOID(half(x));
  return {};
}

TEST(Result, ValueComesOutOfASuccess) {
  const Result<int> result = quarter(12);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(*result, 3);
  EXPECT_TRUE(must_be_even(4).ok());
}

TEST(Result, FirstErrorIsHandedUp) {
  const Result<int> result = quarter(6);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().line(), "number: cannot be halved: expected an even one, found 3");
  EXPECT_FALSE(must_be_even(5).ok());
}

TEST(Result, ValuesThatOnlyMoveAreCarried) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(5));
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 5);
}

TEST(Error, LineLeavesOutWhatIsNotKnown) {
  EXPECT_EQ(bad_input("a", "b").line(), "a: b");
  EXPECT_EQ(bad_input("", "b", "c").line(), "b: expected c");
  EXPECT_EQ(bad_input("a", "b", "", "d").line(), "a: b: found d");
}

TEST(Error, LineIsOneLineWhateverTheFileHolds) {
  const Error error = bad_input("file\nname", "bad\tname", "x", std::string("\x1b[31m\0\r", 7));
  EXPECT_EQ(error.line(), "file name: bad name: expected x, found ?[31m??");
}

TEST(Error, KindsTellTheUsersFaultFromTheMachines) {
  EXPECT_EQ(bad_input("a", "b").kind, Error::Kind::kInput);
  EXPECT_EQ(machine_error("a", "b").kind, Error::Kind::kMachine);
}

TEST(Check, FalseConditionEndsTheProgramAsAnInternalError) {
  EXPECT_EXIT(PS_CHECK(1 + 1 == 3, "details"), testing::ExitedWithCode(3),
              "internal error at .*: 1 \\+ 1 == 3 is false \\(details\\)");
}

}  // namespace
}  // namespace ps
