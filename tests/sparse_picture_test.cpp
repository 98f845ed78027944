// Block lists over a token mask: tiles are classed, what is wrong is never lost, also zoomed out,
// and the commands draw what a case says.
#include <filesystem>

#include <gtest/gtest.h>

#include "diff/picture/png.h"
#include "diff/sparse/picture.h"
#include "tests/support/program.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

// Causal, with the first three keys hidden.
PairMask padded(std::int64_t n) {
  PairMask mask(1, 1, n, n);
  for (std::int64_t q = 0; q < n; ++q) {
    for (std::int64_t k = 3; k <= q; ++k) mask.cells[static_cast<std::size_t>(q * n + k)] = 1;
  }
  return mask;
}

TEST(SparsePicture, ClassesTilesAndSelections) {
  BlockLists lists(1, 1, 5);  // 18 tokens, blocks of 4: the last is cut
  lists.at(0, 0, 0) = {0};
  lists.at(0, 0, 1) = {0, 1, 1};
  lists.at(0, 0, 2) = {1, 4};
  lists.at(0, 0, 3) = {9, 2};
  lists.at(0, 0, 4) = {4};
  const BlockGrid grid = block_grid(padded(18), lists, 4, 0, 0);
  EXPECT_EQ(blocks_text(grid),
            "0 +....\n"
            "1 +2...\n"
            "2 -#-.>\n"
            "3 -=#-.\n"
            "4 -===+\n");
  EXPECT_EQ(grid.duplicates(), 1);
  EXPECT_EQ(grid.future(), 1);
  EXPECT_EQ(grid.outside, 1);
  EXPECT_EQ(grid.count(TileFill::kFull, true), 2);
}

TEST(SparsePicture, AHiddenBlockIsMarkedAndRowsOfADecodeStepAreOfTheirOwn) {
  PairMask mask(1, 1, 1, 9);
  for (std::size_t k = 4; k < 9; ++k) mask.cells[k] = 1;
  BlockLists lists(1, 1, 1);
  lists.at(0, 0, 0) = {0, 2};
  const BlockGrid grid = block_grid(mask, lists, 4, 0, 0);
  EXPECT_EQ(grid.first, 2);
  EXPECT_EQ(blocks_text(grid), "2 E=#\n");
}

TEST(SparsePicture, ZoomingOutLosesNothingThatIsWrong) {
  const std::int64_t n = 300;
  BlockLists lists(1, 1, n);
  lists.at(0, 0, 17) = {17, 211};
  const BlockGrid grid = block_grid(padded(n), lists, 1, 0, 0);
  const std::string text = blocks_text(grid, 50);
  EXPECT_NE(text.find('>'), std::string::npos);
  EXPECT_NE(text.find("a letter is 6 x 6 blocks"), std::string::npos);
  const Image small = draw_blocks(grid, 60);
  bool seen = false;
  for (int y = 0; y < small.height(); ++y) {
    for (int x = 0; x < small.width(); ++x) seen = seen || small.at(x, y) == Color{150, 0, 110};
  }
  EXPECT_TRUE(seen);
}

TEST(SparsePicture, CommandsDrawIt) {
  const TempDir temp;
  const std::string golden = (fixtures_dir() / "golden" / "sparse").string();
  const std::string png = temp / "lists.png";
  const Ran shown = run_parscope({"sparse", "show", golden + "/walk_left_padding_3d", "--plane",
                                  "1,0", "--layer", "1", "--png", png});
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_NE(shown.out.find("layer 1, batch 1, head 0"), std::string::npos) << shown.out;
  EXPECT_TRUE(get_file(png).starts_with("\x89PNG"));
  const Ran twice = run_parscope(
      {"sparse", "show", golden + "/walk_basic_grad", "--candidate", "duplicate_first"});
  EXPECT_NE(twice.out.find('2'), std::string::npos);
  EXPECT_NE(twice.out.find("more than once"), std::string::npos) << twice.out;
  expect_bad_input(run_parscope({"sparse", "show", golden + "/walk_basic_grad", "--plane", "9,9"}),
                   "no such plane");
  put_file(temp / "lists.json", "[[0],[0,1],[1,2],[3],[0,4]]");
  const Ran mask = run_parscope(
      {"mask", "show", "causal", "--size", "40", "--block", "8", "--lists", temp / "lists.json"});
  EXPECT_EQ(mask.code, 0) << mask.out << mask.err;
  EXPECT_NE(mask.out.find("1 #+"), std::string::npos) << mask.out;
  put_file(temp / "bad.json", "[[1],[0],[0],[0],[0]]");
  EXPECT_EQ(run_parscope({"mask", "show", "causal", "--size", "40", "--block", "8", "--lists",
                          temp / "bad.json"})
                .code,
            1);
}

}  // namespace
}  // namespace ps
