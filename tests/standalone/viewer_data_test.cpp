// The viewer without Dear ImGui: links, commands, history, jobs, pyramids and pixels.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "diff/report/link.h"
#include "diff/report/stored.h"
#include "tests/support/sample_report.h"
#include "tests/support/temp_dir.h"
#include "viewer/app/app.h"
#include "viewer/app/command_words.h"
#include "viewer/app/commands.h"
#include "viewer/app/panels.h"
#include "viewer/app/spots.h"
#include "viewer/data/plane.h"
#include "viewer/data/plane_raster.h"
#include "viewer/data/pyramid.h"

namespace ps::viewer {
namespace {

// ---- links --------------------------------------------------------------------------------------

TEST(ViewerLink, PrintsAndReadsBackTheSame) {
  DeepLink link{"0123456789abcdef",
                {{"step", "3"},
                 {"point", "model.layers.0.self_attn:probs"},
                 {"opt.mask.expression", "expected & ~actual = 5 %?"}}};
  const Result<DeepLink> back = parse_link(ps::to_string(link));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, link);
  EXPECT_EQ(ps::to_string(link).find(' '), std::string::npos);  // one word in any report
}

TEST(ViewerLink, RefusesWhatIsNone) {
  for (const char* text : {"", "http://x", "parscope:123?step=0", "parscope:0123456789abcdeg",
                           "parscope:?step", "parscope:?=1", "parscope:?a=%", "parscope:?a=%zz"}) {
    EXPECT_FALSE(parse_link(text).ok()) << text;
  }
  EXPECT_TRUE(parse_link("parscope:").ok());
}

TEST(ViewerLink, StatesSurviveAnyLink) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 500; ++i) {
    State state;
    state.selection = {static_cast<std::int64_t>(random() % 3),
                       static_cast<std::int64_t>(random() % 9),
                       static_cast<std::int64_t>(random() % 4),
                       "model.layers." + std::to_string(random() % 30) + ":x y&=%",
                       {{"head", static_cast<std::int64_t>(random() % 64)},
                        {"key", static_cast<std::int64_t>(random() % 100000)}},
                       static_cast<std::int64_t>(random() % 5) - 1};
    state.display.mode = static_cast<Mode>(random() % 3);
    state.display.metric = static_cast<Metric>(random() % 4);
    state.display.map = static_cast<ColorMap>(random() % 3);
    state.display.tolerance = std::ldexp(static_cast<double>(random() % 1000 + 1), -5);
    state.display.log_range = random() % 2 == 0;
    state.display.high = random() % 2 == 0 ? 0 : 0.1;
    state.display.scale = 1.75;
    state.display.views["mask"] = {1.0 / 3, 1e9 / 7, 2.0 / 3};
    state.display.options["tensor.rows"] = "he ad\"";
    state.panel = "tensor";
    state.layout = "mask";
    const Result<DeepLink> link = parse_link(ps::to_string(link_of(state, "")));
    ASSERT_TRUE(link.ok());
    const Result<State> back = with_link(State{}, *link);
    ASSERT_TRUE(back.ok()) << back.error().line();
    EXPECT_EQ(*back, state);
  }
}

TEST(ViewerLink, CaptureChangesWithWhatWasFoundAndNotWithTheMachine) {
  const Report report = sample_report();
  Report other = report;
  other.environment.emplace_back("host", "\"another\"");
  other.timing.clear();
  EXPECT_EQ(capture_of(other), capture_of(report));
  ASSERT_FALSE(other.points.empty());
  other.points[0].max_ulp += 1;
  EXPECT_NE(capture_of(other), capture_of(report));
}

TEST(ViewerLink, StoredReportHasTheCaptureOfTheOneThatWasWritten) {
  const TempDir dir;
  const Report report = sample_report();
  put_file(dir / "report.json", report_json(report));
  const Result<Report> back = read_report(dir / "report.json");
  ASSERT_TRUE(back.ok()) << back.error().line();
  EXPECT_EQ(capture_of(*back), capture_of(report));
  EXPECT_EQ(report_json(*back).substr(0, 400), report_json(report).substr(0, 400));
  ASSERT_EQ(back->points.size(), report.points.size());
  for (std::size_t i = 0; i < report.points.size(); ++i) {
    EXPECT_EQ(back->points[i].shape, report.points[i].shape);
    EXPECT_EQ(back->points[i].status, report.points[i].status);
  }
}

TEST(ViewerLink, ReportOfAnotherFormIsRefused) {
  const TempDir dir;
  put_file(
      dir / "a.json",
      R"({"format":"parscope-report/1","verdict":"equivalent","findings":[],"points":[{"point":"x","status":"odd"}]})");
  const Result<Report> back = read_report(dir / "a.json");
  ASSERT_FALSE(back.ok());
  EXPECT_NE(back.error().line().find("/points/0/status"), std::string::npos);
}

TEST(ViewerLink, CoordinatesOfAPlace) {
  using Pairs = std::vector<std::pair<std::string, std::int64_t>>;
  EXPECT_EQ(coordinates_of("replica=1 batch=0 head=3"),
            (Pairs{{"replica", 1}, {"batch", 0}, {"head", 3}}));
  EXPECT_EQ(coordinates_of("row 3, key=x =4 key=-1 key=7"), (Pairs{{"key", 7}}));
}

TEST(ViewerLink, OfAnotherCaptureSaysSo) {
  App app;
  const Result<void> done = app.execute("follow parscope:0123456789abcdef?step=0");
  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().line().find("another capture"), std::string::npos);
  EXPECT_TRUE(app.execute("follow parscope:?mode=actual").ok());
  EXPECT_EQ(app.state.display.mode, Mode::kActual);
}

// ---- commands and history -----------------------------------------------------------------------

TEST(ViewerCommands, EveryLineHasItsNameOnceAndAHelp) {
  std::set<std::string_view> names;
  for (const CommandInfo& command : command_table()) {
    EXPECT_TRUE(names.insert(command.name).second) << command.name;
    EXPECT_FALSE(command.help.empty()) << command.name;
    EXPECT_EQ(find_command(command.name), &command);
  }
  EXPECT_GT(names.size(), 35u);
}

TEST(ViewerCommands, EveryCommandRefusesWhatItCannotReadAndChangesNothing) {
  App app;
  for (const CommandInfo& command : command_table()) {
    const State before = app.state;
    const std::string line = std::string(command.name) + " a b c d e f g h i j k l m n o p q r";
    EXPECT_FALSE(app.execute(line).ok()) << line;
    EXPECT_EQ(app.state, before) << line;
    EXPECT_EQ(app.log().back().kind, LogLine::Kind::kError);
  }
}

TEST(ViewerCommands, WordsAndQuotes) {
  const std::string odd = "a \"b\" \\ c";
  const Result<Words> words = words_of("  open " + as_word(odd) + "\tx ");
  ASSERT_TRUE(words.ok());
  EXPECT_EQ(*words, (Words{"open", odd, "x"}));
  EXPECT_FALSE(words_of("open \"a").ok());
}

TEST(ViewerCommands, UndoAndRedo) {
  App app;
  ASSERT_TRUE(app.execute("mode actual").ok());
  ASSERT_TRUE(app.execute("metric ulp").ok());
  const State both = app.state;
  ASSERT_TRUE(app.execute("undo").ok());
  EXPECT_EQ(app.state.display.metric, Metric::kRatio);
  ASSERT_TRUE(app.execute("undo").ok());
  EXPECT_EQ(app.state, State{});
  EXPECT_FALSE(app.execute("undo").ok());
  ASSERT_TRUE(app.execute("redo").ok());
  ASSERT_TRUE(app.execute("redo").ok());
  EXPECT_EQ(app.state, both);
  EXPECT_FALSE(app.execute("redo").ok());
  // A refused command and one that changes nothing leave no trace.
  EXPECT_FALSE(app.execute("mode sideways").ok());
  ASSERT_TRUE(app.execute("mode actual").ok());
  ASSERT_TRUE(app.execute("undo").ok());
  EXPECT_EQ(app.state.display.metric, Metric::kRatio);
}

TEST(ViewerCommands, DraggingIsOneStepOfHistory) {
  App app;
  for (int i = 1; i < 20; ++i)
    ASSERT_TRUE(app.execute_merged("view tensor " + std::to_string(i) + " 1 2").ok());
  ASSERT_TRUE(app.execute("undo").ok());
  EXPECT_EQ(app.state, State{});
}

TEST(ViewerCommands, OpeningWhatIsNothingIsASentence) {
  const TempDir dir;
  put_file(dir / "x.txt", "x");
  put_file(dir / "y.json", "{\"a\": 1}");
  put_file(dir / "z.json", "{");
  put_file(dir / "w.safetensors", "short");
  App app;
  for (const char* name : {"x.txt", "y.json", "z.json", "w.safetensors", "nothing", ""}) {
    const Result<void> done = app.execute("open " + as_word((dir.path() / name).string()));
    ASSERT_FALSE(done.ok()) << name;
    EXPECT_NE(done.error().line().find(dir.path().string()), std::string::npos)
        << done.error().line();
    EXPECT_TRUE(app.session.empty());
  }
}

// ---- jobs ---------------------------------------------------------------------------------------

TEST(ViewerJobs, OnlyTheLastWishOfAKeyCounts) {
  std::atomic<bool> go = false;
  std::vector<int> ran;
  Jobs jobs;
  jobs.run("block", "waiting", [&](const std::stop_token& stop) -> Jobs::Done {
    while (!go && !stop.stop_requested()) std::this_thread::yield();
    return nullptr;
  });
  for (int i = 0; i < 5; ++i) {
    jobs.run("same", "n", [&ran, i](const std::stop_token&) -> Jobs::Done {
      return [&ran, i] { ran.push_back(i); };
    });
  }
  jobs.run("other", "n",
           [&ran](const std::stop_token&) -> Jobs::Done { return [&ran] { ran.push_back(9); }; });
  EXPECT_FALSE(jobs.poll());
  go = true;
  jobs.wait_all();
  EXPECT_EQ(ran, (std::vector<int>{4, 9}));
  EXPECT_EQ(jobs.label(), "");
}

// ---- matrices, pyramids, pixels -----------------------------------------------------------------

TEST(ViewerPlane, CutsTheCellsThatItNames) {
  const std::vector<NamedAxis> axes = {
      {"replica", 2}, {"batch", 3}, {"head", 5}, {"query", 7}, {"key", 11}};
  Selection selection;
  selection.cell = {{"replica", 1}, {"batch", 2}, {"head", 4}, {"query", 6}, {"key", 3}};
  Display display;
  const Cut usual = cut_of(axes, selection, display);
  EXPECT_EQ(usual.row_name(), "query");
  EXPECT_EQ(usual.column_name(), "key");
  display.options = {{"tensor.rows", "head"}, {"tensor.columns", "replica"}};
  const Cut other = cut_of(axes, selection, display);
  EXPECT_EQ(other.rows, 5);
  EXPECT_EQ(other.columns, 2);
  for (const Cut& cut : {usual, other}) {
    for (std::int64_t r = 0; r < cut.rows; ++r) {
      for (std::int64_t c = 0; c < cut.columns; ++c) {
        const std::vector<std::int64_t> at = index_of(axes, cut.flat(r, c));
        for (std::size_t i = 0; i < axes.size(); ++i) {
          const auto axis = static_cast<std::ptrdiff_t>(i);
          const std::int64_t wanted = axis == cut.row_axis      ? r
                                      : axis == cut.column_axis ? c
                                                                : selection.at(axes[i].name);
          ASSERT_EQ(at[i], wanted) << axes[i].name;
        }
      }
    }
  }
}

TEST(ViewerPlane, ScalarsAndVectorsAreMatricesToo) {
  const Cut scalar = cut_of({}, {}, {});
  EXPECT_EQ(scalar.rows * scalar.columns, 1);
  EXPECT_EQ(scalar.flat(0, 0), 0);
  const Cut vector = cut_of({{"channel", 5}}, {}, {});
  EXPECT_EQ(vector.rows, 1);
  EXPECT_EQ(vector.columns, 5);
  EXPECT_EQ(vector.flat(0, 4), 4);
}

TEST(ViewerPlane, UlpsOfEveryType) {
  EXPECT_EQ(ulps_between(1.0, std::nextafter(1.0, 2.0), DType::kF64), 1);
  EXPECT_EQ(ulps_between(1.0, 1.0 + 0x1p-23, DType::kF32), 1);
  EXPECT_EQ(ulps_between(1.0, 1.0 + 3 * 0x1p-7, DType::kBF16), 3);
  EXPECT_EQ(ulps_between(1.0, 1.0 + 2 * 0x1p-10, DType::kF16), 2);
  EXPECT_EQ(ulps_between(7, 4, DType::kI32), 3);
}

TEST(ViewerPyramid, WorstOfARegionIsNeverLessThanItsCells) {
  std::mt19937_64 random(11);
  for (int trial = 0; trial < 60; ++trial) {
    const auto rows = static_cast<std::int64_t>(random() % 90 + 1),
               columns = static_cast<std::int64_t>(random() % 130 + 1);
    std::vector<float> cells(static_cast<std::size_t>(rows * columns));
    for (float& x : cells) x = static_cast<float>(random() % 1000);
    const auto cell = [&](std::int64_t r, std::int64_t c) {
      return cells[static_cast<std::size_t>(r * columns + c)];
    };
    const Pyramid pyramid = Pyramid::build(rows, columns, Pool::kMax, cell);
    EXPECT_EQ(pyramid.all(), *std::max_element(cells.begin(), cells.end()));
    for (int k = 0; k < 40; ++k) {
      const auto r0 = static_cast<std::int64_t>(random()) % rows,
                 c0 = static_cast<std::int64_t>(random()) % columns;
      const std::int64_t ra = std::abs(r0), ca = std::abs(c0);
      const std::int64_t rb = ra + 1 + static_cast<std::int64_t>(random() % 40),
                         cb = ca + 1 + static_cast<std::int64_t>(random() % 40);
      float inside = 0, around = 0;
      const std::int64_t side = std::min(std::min(rb, rows) - ra, std::min(cb, columns) - ca);
      for (std::int64_t r = std::max<std::int64_t>(0, ra - side); r < std::min(rows, rb + side);
           ++r) {
        for (std::int64_t c = std::max<std::int64_t>(0, ca - side);
             c < std::min(columns, cb + side); ++c) {
          around = std::max(around, cell(r, c));
          if (r >= ra && r < rb && c >= ca && c < cb) inside = std::max(inside, cell(r, c));
        }
      }
      const float worst = pyramid.worst(ra, rb, ca, cb);
      EXPECT_GE(worst, inside);
      EXPECT_LE(worst, around);  // and nothing from farther away than the region is wide
    }
  }
}

TEST(ViewerPyramid, NanIsNeverLost) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Pool pool : {Pool::kMax, Pool::kExtreme}) {
    for (std::int64_t at = 0; at < 37 * 23; at += 5) {
      const Pyramid p = Pyramid::build(37, 23, pool, [&](std::int64_t r, std::int64_t c) {
        return r * 23 + c == at ? nan : 1e30f;
      });
      EXPECT_TRUE(std::isnan(p.all()));
      EXPECT_EQ(p.nonfinite(), 1);
    }
  }
  const Pyramid p = Pyramid::build(2, 2, Pool::kExtreme, [](std::int64_t r, std::int64_t c) {
    return r == 0 ? 3.0f : c == 0 ? -7.0f : 5.0f;
  });
  EXPECT_EQ(p.all(), -7.0f);
}

// The guarantee: 300 random single wrong cells, seen from random places, are all visible.
TEST(ViewerPixels, OneWrongCellIsVisibleFromAnywhere) {
  std::mt19937_64 random(2026);
  const auto real = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  for (int trial = 0; trial < 300; ++trial) {
    const auto rows = static_cast<std::int64_t>(std::exp2(real() * 10.5) + 1),
               columns = static_cast<std::int64_t>(std::exp2(real() * 10.5) + 1);
    const auto row = static_cast<std::int64_t>(real() * static_cast<double>(rows)),
               column = static_cast<std::int64_t>(real() * static_cast<double>(columns));
    const float error = trial % 3 == 0   ? std::numeric_limits<float>::quiet_NaN()
                        : trial % 3 == 1 ? 1.5f
                                         : 1e9f;
    const Pyramid errors = Pyramid::build(
        rows, columns, Pool::kMax,
        [&](std::int64_t r, std::int64_t c) { return r == row && c == column ? error : 0.5f; });
    Window window;
    window.width = 40 + static_cast<int>(random() % 700);
    window.height = 40 + static_cast<int>(random() % 500);
    const double zoom = std::exp2(real() * 12);
    window.cell_width = std::min(window.width / static_cast<double>(columns) * zoom, 256.0);
    window.cell_height = std::min(window.height / static_cast<double>(rows) * zoom, 256.0);
    // Somewhere from where the cell's middle is inside.
    const double seen_x = window.width / window.cell_width,
                 seen_y = window.height / window.cell_height;
    const auto origin = [&](double middle, double seen, double all) {
      return seen >= all ? 0.0
                         : std::clamp(middle - seen * (0.02 + 0.96 * real()), 0.0, all - seen);
    };
    window.left = origin(static_cast<double>(column) + 0.5, seen_x, static_cast<double>(columns));
    window.top = origin(static_cast<double>(row) + 0.5, seen_y, static_cast<double>(rows));
    ErrorScale scale;
    std::vector<std::uint32_t> pixels(static_cast<std::size_t>(window.width * window.height), 0);
    draw_errors(errors, window, scale, pixels);
    const Color wrong = color_of_error(error, scale), fine = color_of_error(0.5f, scale);
    ASSERT_NE(wrong, fine);
    const std::uint32_t wanted = 0xff000000u | static_cast<std::uint32_t>(wrong.b) << 16 |
                                 static_cast<std::uint32_t>(wrong.g) << 8 | wrong.r;
    const double x = (static_cast<double>(column) + 0.5 - window.left) * window.cell_width,
                 y = (static_cast<double>(row) + 0.5 - window.top) * window.cell_height;
    int near = 0, far = 0;
    for (int py = 0; py < window.height; ++py) {
      for (int px = 0; px < window.width; ++px) {
        if (pixels[static_cast<std::size_t>(py * window.width + px)] != wanted) continue;
        const bool close = std::fabs(px + 0.5 - x) <= window.cell_width / 2 + 3.5 &&
                           std::fabs(py + 0.5 - y) <= window.cell_height / 2 + 3.5;
        ++(close ? near : far);
      }
    }
    EXPECT_GE(near, std::min(window.width, window.height) < 3 ? 1 : 4)
        << "trial " << trial << ": lost";
    EXPECT_EQ(far, 0) << "trial " << trial << ": shown where it is not";
  }
}

TEST(ViewerPixels, AnyErrorStandsOutInEveryMetricAndMap) {
  for (const Metric metric : {Metric::kAbs, Metric::kRel, Metric::kUlp}) {
    for (const ColorMap map : {ColorMap::kCividis, ColorMap::kViridis, ColorMap::kGray}) {
      ErrorScale scale{metric, 1, 1e-3, 1e3, true, map};
      const Color none = color_of_error(0, scale), least = color_of_error(1e-30f, scale);
      const int difference =
          std::abs(none.r - least.r) + std::abs(none.g - least.g) + std::abs(none.b - least.b);
      EXPECT_GT(difference, 24) << static_cast<int>(metric) << " " << static_cast<int>(map);
    }
  }
}

}  // namespace
}  // namespace ps::viewer
