#include "core/view.h"

#include <array>
#include <cstdint>
#include <numeric>

#include <gtest/gtest.h>

namespace ps {
namespace {

TEST(View, IndicesFollowRowMajorOrder) {
  std::array<int, 2 * 3 * 5> cells{};
  std::iota(cells.begin(), cells.end(), 0);
  const View<int, 3> view(cells.data(), 2, 3, 5);
  EXPECT_EQ(view(0, 0, 0), 0);
  EXPECT_EQ(view(1, 2, 4), 29);
  EXPECT_EQ(view(1, 0, 3), 18);
  EXPECT_EQ(view.offset(1, 1, 2), 22);
  EXPECT_EQ(view.count(), 30);
  EXPECT_EQ(view.size(1), 3);
  EXPECT_EQ(view.stride(0), 15);
}

TEST(View, WritingGoesToTheOwner) {
  std::array<float, 6> cells{};
  const View<float, 2> view(cells.data(), 2, 3);
  view(1, 0) = 4.0f;
  EXPECT_EQ(cells[3], 4.0f);
  const View<const float, 2> seen = view;
  EXPECT_EQ(seen(1, 0), 4.0f);
  EXPECT_EQ(seen.data(), cells.data());
}

TEST(View, TransposedViewShowsTheSameCells) {
  std::array<int, 2 * 3 * 5> cells{};
  std::iota(cells.begin(), cells.end(), 0);
  const View<int, 3> view(cells.data(), 2, 3, 5);
  const View<int, 3> turned = view.transposed(0, 2);
  EXPECT_EQ(turned.size(0), 5);
  EXPECT_EQ(turned.size(2), 2);
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 5; ++k) EXPECT_EQ(&turned(k, j, i), &view(i, j, k));
    }
  }
}

TEST(View, NarrowedViewShowsOneRangeOfAnAxis) {
  std::array<int, 3 * 7> cells{};
  std::iota(cells.begin(), cells.end(), 0);
  const View<int, 2> view(cells.data(), 3, 7);
  const View<int, 2> tail = view.narrowed(1, 4, 3);
  EXPECT_EQ(tail.size(0), 3);
  EXPECT_EQ(tail.size(1), 3);
  EXPECT_EQ(tail(2, 1), 2 * 7 + 5);
  EXPECT_EQ(view.narrowed(0, 3, 0).count(), 0);
}

TEST(View, OnlyCellsOfTheViewAreContained) {
  std::array<int, 6> cells{};
  const View<int, 2> view(cells.data(), 2, 3);
  EXPECT_TRUE(view.contains(1, 2));
  EXPECT_FALSE(view.contains(2, 0));
  EXPECT_FALSE(view.contains(0, 3));
  EXPECT_FALSE(view.contains(-1, 0));
}

TEST(View, OffsetsBeyondThirtyTwoBitsAreExact) {
  const View<char, 3> view(nullptr, std::int64_t{1} << 20, 4099, 3);
  EXPECT_EQ(view.offset(1'000'003, 4098, 2), (1'000'003LL * 4099 + 4098) * 3 + 2);
}

}  // namespace
}  // namespace ps
