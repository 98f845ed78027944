// The terminal's text and the strip.
#include <algorithm>
#include <cmath>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "diff/report/strip.h"
#include "diff/report/strip_picture.h"
#include "diff/report/words.h"
#include "tests/support/sample_report.h"

namespace ps {
namespace {

// ---- terminal ----------------------------------------------------------------------------------

TEST(ReportText, VerdictFirstDivergenceAndCauseAreOnTop) {
  const std::string text = report_text(sample_report(), "check m", {});
  const std::vector<std::string> order = {"check m: diverged, 1 error, 1 warning",
                                          "first divergence: model.layers.2.self_attn:q_rope",
                                          "replica=1 batch=0 head=3 query=7",
                                          "8123 times what rounding explains",
                                          "cause: rope-interleaved-vs-half",
                                          "fix: rotate",
                                          "warning  unnamed",
                                          "self_attn:q_rope          ..4~~~  <- first",
                                          "1 diverged, 66 propagated",
                                          "power: this run would have shown 97 %",
                                          "cache-beam-reorder-skipped"};
  std::size_t before = 0;
  for (const std::string& words : order) {
    const std::size_t at = text.find(words, before);
    ASSERT_NE(at, std::string::npos) << words << "\n" << text;
    before = at;
  }
  EXPECT_EQ(occurrences(text, "rope-interleaved-vs-half"), 1U) << "the cause is said once";
}

TEST(ReportText, NoLineIsWiderThanTheTerminal) {
  for (const int layers : {1, 6, 80, 200}) {
    Report r = sample_report(layers);
    r.findings[0].message = std::string(500, 'x') + " and words " + std::string(90, 'y');
    r.findings[1].point = std::string(300, 'p');
    r.points.back().point = std::string(300, 'q');
    r.points.back().step = 123456;
    r.points.back().rank = 17;
    r.points.back().status = PointStatus::kDiverged;
    for (const int width : {10, 80, 100, 200}) {
      std::istringstream lines(report_text(r, "check fixtures/models/m", {.width = width}));
      for (std::string line; std::getline(lines, line);) {
        if (line.find("view: parscope:") != line.npos)
          continue;  // a link that is cut opens nothing
        EXPECT_LE(columns_of(line), static_cast<std::size_t>(std::max(width, 80))) << line;
      }
    }
  }
}

TEST(ReportText, NothingInAFileCanMoveTheCursor) {
  const std::string text = report_text(hostile_report(), "m", {});
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(text.find('\xff'), std::string::npos);
  EXPECT_EQ(text.find("\xe2\x80\xae"), std::string::npos) << "turns the direction of writing";
}

TEST(ReportText, PlainStyleIsAsciiAndColorOnlyAddsEscapes) {
  const Report r = sample_report();
  const std::string text = report_text(r, "m", {});
  for (const char c : text) EXPECT_TRUE(c == '\n' || (c >= ' ' && c < 127)) << int{c};
  const std::string color = report_text(r, "m", {.color = true});
  EXPECT_NE(color, text);
  EXPECT_EQ(std::regex_replace(color, std::regex("\x1b\\[[0-9;]*m"), ""), text);
}

TEST(ReportText, LongListsAreCutAndSaySo) {
  Report r = sample_report();
  for (int i = 0; i < 50; ++i) r.findings.push_back(r.findings[1]);
  for (int i = 0; i < 50; ++i) r.blind_spots.push_back(r.blind_spots[0]);
  const std::string text = report_text(r, "m", {});
  EXPECT_NE(text.find("... and 32 more (--json shows all)"), std::string::npos) << text;
  EXPECT_NE(text.find("... and 46 more (--json shows all)"), std::string::npos) << text;
}

TEST(ReportText, QuietSaysOnlyWhatIsWrong) {
  Report r = sample_report();
  const std::string bad = report_text(r, "m", {.quiet = true});
  EXPECT_EQ(bad.find("Benign"), std::string::npos);
  EXPECT_EQ(bad.find("power"), std::string::npos);
  EXPECT_NE(bad.find("rope-interleaved"), std::string::npos);
  r = {};
  EXPECT_EQ(report_text(r, "m", {.quiet = true}), "m: nothing wrong found\n");
}

// ---- strip -------------------------------------------------------------------------------------

TEST(Strip, WorstOfStepsAndRanksIsShown) {
  Report r;
  const std::string point = "model.layers.3.mlp:act";
  r.points = {sample_row(point, PointStatus::kPropagated, 1e6),
              sample_row(point, PointStatus::kDiverged, 12),
              sample_row(point, PointStatus::kOk, 0.1),
              sample_row("model.layers.7.mlp:act", PointStatus::kOk, 0.9),
              sample_row("model.layers.7.mlp", PointStatus::kNonfinite, NAN),
              sample_row("grad/x", PointStatus::kUnmatched, 0)};
  r.points[1].step = 1;
  r.points[2].step = 2;
  const Strip strip = strip_of(r);
  EXPECT_EQ(strip.layer_numbers, (std::vector<std::int64_t>{3, 7}));
  EXPECT_EQ(strip.unknown, 1U);
  ASSERT_EQ(strip.inside.size(), 2U);
  EXPECT_EQ(strip.inside[0].op, "mlp:act");
  EXPECT_EQ(letter_of(strip.inside[0].cells[0]), '2');
  EXPECT_EQ(letter_of(strip.inside[0].cells[1]), ':');
  EXPECT_EQ(strip.inside[1].op, "mlp.down_proj");  // an alias
  EXPECT_EQ(letter_of(strip.inside[1].cells[0]), ' ');
  EXPECT_EQ(letter_of(strip.inside[1].cells[1]), 'N');
}

TEST(Strip, LettersCountPowersOfTen) {
  const auto letter = [](double ratio) {
    return letter_of({true, PointStatus::kDiverged, ratio, false});
  };
  EXPECT_EQ(letter(0.5), '1');  // diverged for another reason; never a dot
  EXPECT_EQ(letter(1.5), '1');
  EXPECT_EQ(letter(10), '1');
  EXPECT_EQ(letter(10.5), '2');
  EXPECT_EQ(letter(1e9), '9');
  EXPECT_EQ(letter(1e300), '9');
  EXPECT_EQ(letter(HUGE_VAL), '9');
  EXPECT_EQ(letter(NAN), '9');
}

TEST(Strip, FoldingKeepsTheWorst) {
  std::vector<StripCell> cells(1000, {true, PointStatus::kOk, 0.1, false});
  cells[777] = {true, PointStatus::kDiverged, 3, true};
  const std::vector<StripCell> few = folded(cells, 60);
  EXPECT_LE(few.size(), 60U);
  int bad = 0;
  for (const StripCell& c : few) bad += c.status == PointStatus::kDiverged && c.first ? 1 : 0;
  EXPECT_EQ(bad, 1);
}

TEST(StripPicture, OneDivergedCellIsSeenAmongAThousandLayers) {
  const Image image = draw_strip(strip_of(sample_report(1000)), "t", "s", Theme::kLight);
  const Color wrong = color_of_ratio(8123.4, Theme::kLight);
  int n = 0;
  for (int y = 0; y < image.height() - 90; ++y) {  // above the scale
    for (int x = 0; x < image.width(); ++x) n += image.at(x, y) == wrong ? 1 : 0;
  }
  EXPECT_GE(n, 9);
  EXPECT_LE(image.width(), 1400);
}

TEST(StripPicture, DivergedNeverLooksRightAndOkNeverWrong) {
  for (const Theme theme : {Theme::kLight, Theme::kDark}) {
    const Color at_bound = color_of_ratio(1, theme);
    const Color over = color_of_ratio(std::nextafter(1.0, 2.0), theme);
    EXPECT_EQ(color_of({true, PointStatus::kDiverged, 0.2, false}, theme), over);
    EXPECT_EQ(color_of({true, PointStatus::kOk, 7, false}, theme), at_bound);
    EXPECT_EQ(color_of({true, PointStatus::kDiverged, NAN, false}, theme),
              color_of_ratio(HUGE_VAL, theme));
  }
}

}  // namespace
}  // namespace ps
