// Every command, key, panel, layout and link, with real input events and no window.
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <imgui_internal.h>

#include "diff/report/forms.h"
#include "diff/report/link.h"
#include "diff/report/stored.h"
#include "diff/report/strip.h"
#include "diff/report/text.h"
#include "tests/support/temp_dir.h"
#include "tests/viewer/stage_fixture.h"
#include "viewer/app/commands.h"
#include "viewer/app/panels.h"
#include "viewer/ui/canvas.h"
#include "viewer/ui/keys.h"
#include "viewer/ui/palette.h"

namespace ps::viewer {
namespace {

class ViewerUi : public StageTest {};

TEST_F(ViewerUi, EmptyStateSaysWhatToDo) {
  settle();
  const Frame frame = drawn(kWidth, kHeight);
  std::set<std::uint32_t> colors(frame.pixels.begin(), frame.pixels.end());
  EXPECT_GT(colors.size(), 10u);  // text, not a blank window
  EXPECT_FALSE(app.execute("next").ok());
  EXPECT_FALSE(app.execute("no-such-command").ok());
}

TEST_F(ViewerUi, EveryKeyOfTheTableIsAKeyAndNoTwoAreTheSame) {
  std::set<int> seen;
  for (const auto& [chord, line] : bound_chords()) {
    EXPECT_NE(chord, ImGuiKey_None) << line;
    EXPECT_TRUE(seen.insert(chord).second) << line;
  }
  EXPECT_GT(seen.size(), 40u);
}

TEST_F(ViewerUi, EveryKeyRunsItsCommand) {
  open_diverged();
  drive([&](ImGuiTestContext* ctx) {
    for (const auto& [chord, line] : bound_chords()) {
      if (line == "quit") continue;
      app.state.selection.cell["replica"] = 1;
      app.clear_log();
      const State before = app.state;
      ctx->KeyPress(chord);
      ctx->Yield(2);
      const bool noted = !app.log().empty() || !(before == app.state) ||
                         stage->shell().palette_open() || stage->shell().help_open();
      const bool moves =
          line.starts_with("move") || line == "clear";  // at an edge they change nothing
      IM_CHECK_SILENT(noted || moves);
      if (!noted && !moves) ctx->LogError("nothing came of the key for: %s", line.c_str());
      for (int i = 0; i < 2; ++i) {
        if (stage->shell().palette_open() || stage->shell().help_open())
          ctx->KeyPress(ImGuiKey_Escape);
      }
      IM_CHECK(!stage->shell().palette_open());
    }
  });
}

TEST_F(ViewerUi, QuitByKeyAsksToQuit) {
  open_diverged();
  drive([&](ImGuiTestContext* ctx) { ctx->KeyPress(ImGuiMod_Ctrl | ImGuiKey_Q); });
  EXPECT_TRUE(app.requests.quit);
}

TEST_F(ViewerUi, EveryPanelOpensInEveryLayout) {
  open_diverged();
  for (const LayoutInfo& layout : layout_table()) {
    must("layout " + std::string(layout.name));
    settle();
    for (const PanelInfo& panel : panel_table()) {
      must("panel " + std::string(panel.name));
      settle();
      EXPECT_TRUE(stage->shell().is_open(panel.name)) << layout.name << " " << panel.name;
      const ImGuiWindow* window = ImGui::FindWindowByName(window_title(panel.name).c_str());
      ASSERT_NE(window, nullptr);
      EXPECT_TRUE(window->WasActive) << layout.name << " " << panel.name;
    }
  }
}

// Which panel's window has the keyboard, as ImGui sees it.
std::string focused_panel() {
  for (const ImGuiWindow* w = ImGui::GetCurrentContext()->NavWindow; w != nullptr;
       w = w->ParentWindow) {
    for (const PanelInfo& panel : panel_table()) {
      if (w == ImGui::FindWindowByName(window_title(panel.name).c_str()))
        return std::string(panel.name);
    }
  }
  return "";
}

TEST_F(ViewerUi, ControlTabGivesTheKeyboardToEveryOpenPanelInTurnAndBack) {
  open_diverged();
  const std::vector<std::string> order = {"divergence", "runs",     "tensor",
                                          "history",    "findings", "log"};
  EXPECT_EQ(app.open_panels, order);
  drive([&](ImGuiTestContext* ctx) {
    for (const std::size_t i : {1, 2, 3, 4, 5, 0, 1}) {
      ctx->KeyPress(ImGuiMod_Ctrl | ImGuiKey_Tab);
      ctx->Yield(4);
      IM_CHECK_STR_EQ(app.state.panel.c_str(), order[i].c_str());
      IM_CHECK_STR_EQ(focused_panel().c_str(), order[i].c_str());
      const ImGuiWindow* window = ImGui::FindWindowByName(window_title(order[i]).c_str());
      IM_CHECK(window != nullptr && window->DockTabIsVisible);  // in front of its place
    }
    for (const std::size_t i : {0, 5, 4}) {
      ctx->KeyPress(ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_Tab);
      ctx->Yield(4);
      IM_CHECK_STR_EQ(focused_panel().c_str(), order[i].c_str());
    }
    ctx->WindowClose("Tensor###tensor");
    for (const std::size_t i : {3, 1}) {  // what is closed is left out
      ctx->KeyPress(ImGuiMod_Ctrl | ImGuiMod_Shift | ImGuiKey_Tab);
      ctx->Yield(4);
      IM_CHECK_STR_EQ(focused_panel().c_str(), order[i].c_str());
    }
    ctx->KeyPress(ImGuiMod_Ctrl | ImGuiKey_Z);
    ctx->Yield(4);
    IM_CHECK_STR_EQ(focused_panel().c_str(), "history");  // a view as any other: undone
  });
}

TEST_F(ViewerUi, OnePanelAloneIsExchangedForEveryOther) {
  open_diverged();
  must("layout solo");
  std::set<std::string> seen;
  for (std::size_t i = 0; i < panel_table().size(); ++i) {
    must("panel +1");
    settle();
    EXPECT_EQ(app.open_panels, std::vector<std::string>{app.state.panel});
    seen.insert(app.state.panel);
  }
  EXPECT_EQ(seen.size(), panel_table().size());
  for (const char* bad : {"panel +", "panel +0", "panel -x", "panel +9999999999999"})
    EXPECT_FALSE(app.execute(bad).ok()) << bad;
}

TEST_F(ViewerUi, DroppedFilesAreOpenedAndABadOneIsSaidLast) {
  const TempDir dir;
  put_file(dir / "not a trace.txt", "hello");
  const std::string candidate = shared_scene().candidate.string();
  open_dropped(app, {candidate, shared_scene().second.string()});
  EXPECT_EQ(app.session.runs().size(), 2u);
  EXPECT_NE(app.log().back().kind, LogLine::Kind::kError);
  app.session.close();
  open_dropped(app, {dir / "not a trace.txt", candidate, dir / "gone"});
  EXPECT_EQ(app.session.runs().size(), 1u);
  const LogLine& last = app.log().back();
  EXPECT_EQ(last.kind, LogLine::Kind::kError);
  EXPECT_NE(last.text.find("not a trace.txt"), std::string::npos) << last.text;
  EXPECT_NE(last.text.find("gone"), std::string::npos) << last.text;
  settle();
  open_dropped(app, {});
}

TEST_F(ViewerUi, LayoutsNameOnlyPanelsThatExist) {
  for (const LayoutInfo& layout : layout_table()) {
    for (const std::string_view place : {layout.main, layout.below, layout.right, layout.corner}) {
      const Result<Words> words = words_of(place);
      ASSERT_TRUE(words.ok());
      for (const std::string& name : *words)
        EXPECT_NE(find_panel(name), nullptr) << layout.name << ": " << name;
    }
  }
}

TEST_F(ViewerUi, ClickInTheStripSelectsThePoint) {
  open_diverged();
  drive([&](ImGuiTestContext* ctx) {
    ctx->WindowFocus("Divergence###divergence");
    const Canvas canvas = last_canvases().find("divergence")->second;
    std::set<std::string> points;
    for (const std::int64_t row : {std::int64_t{9}, canvas.rows / 2}) {
      for (std::int64_t layer = 0; layer < canvas.columns; ++layer) {
        ctx->MouseMoveToPos(ImVec2(canvas.x_of(static_cast<double>(layer) + 0.5),
                                   canvas.y_of(static_cast<double>(row) + 0.5)));
        ctx->MouseClick();
        ctx->Yield();
        points.insert(app.state.selection.point);
        IM_CHECK(app.state.selection.point.find("layers." + std::to_string(layer)) !=
                 std::string::npos);
      }
    }
    IM_CHECK_GE(static_cast<int>(points.size()), 4);
  });
}

TEST_F(ViewerUi, ClickInTheMatrixSelectsTheCell) {
  open_diverged();
  must(std::string("go ") + kWrongPoint);
  must("panel tensor");
  settle();
  drive([&](ImGuiTestContext* ctx) {
    const Canvas canvas = last_canvases().find("tensor")->second;
    IM_CHECK_EQ(canvas.rows, 9);
    IM_CHECK_EQ(canvas.columns, 11);
    ctx->MouseMoveToPos(ImVec2(canvas.x_of(7.5), canvas.y_of(4.5)));
    ctx->MouseClick();
    ctx->Yield();
    IM_CHECK_EQ(app.state.selection.at("query"), 4);
    IM_CHECK_EQ(app.state.selection.at("key"), 7);
    ctx->MouseWheelY(5);
    ctx->Yield(2);
    IM_CHECK(app.state.display.view("tensor").zoom > 1);
    ctx->KeyPress(ImGuiKey_LeftArrow);
    IM_CHECK_EQ(app.state.selection.at("key"), 6);
  });
}

TEST_F(ViewerUi, PaletteRunsWhatIsTyped) {
  open_diverged();
  drive([&](ImGuiTestContext* ctx) {
    ctx->KeyPress(ImGuiMod_Ctrl | ImGuiKey_P);
    ctx->Yield(3);
    IM_CHECK(stage->shell().palette_open());
    ctx->KeyCharsReplaceEnter("go model.norm token=2");
    ctx->Yield(2);
    IM_CHECK_STR_EQ(app.state.selection.point.c_str(), "model.norm");
    IM_CHECK_EQ(app.state.selection.at("token"), 2);
    ctx->KeyPress(ImGuiMod_Ctrl | ImGuiKey_P);
    ctx->Yield(3);
    ctx->KeyCharsReplaceEnter("lm_head");  // a point by a part of its name
    ctx->Yield(2);
    IM_CHECK_STR_EQ(app.state.selection.point.c_str(), "lm_head");
  });
}

TEST_F(ViewerUi, CommandLineOfTheLogRuns) {
  open_diverged();
  must("panel log");
  settle();
  drive([&](ImGuiTestContext* ctx) {
    ctx->SetRef("Log###log");
    ctx->ItemClick("##command");
    ctx->KeyCharsReplaceEnter("metric ulp");
    ctx->Yield();
    IM_CHECK(app.state.display.metric == Metric::kUlp);
  });
}

TEST_F(ViewerUi, HoldingSpaceShowsTheExpected) {
  open_diverged();
  drive([&](ImGuiTestContext* ctx) {
    IM_CHECK(app.mode() == Mode::kDiff);
    ctx->KeyDown(ImGuiKey_Space);
    ctx->Yield(2);
    IM_CHECK(app.mode() == Mode::kExpected);
    ctx->KeyUp(ImGuiKey_Space);
    ctx->Yield(2);
    IM_CHECK(app.mode() == Mode::kDiff);
  });
}

TEST_F(ViewerUi, FindingLeadsToItsSpot) {
  must("open " + as_word(shared_scene().report.string()));
  settle();
  must("finding 0");
  EXPECT_EQ(app.state.selection.point, kWrongPoint);
  EXPECT_EQ(app.state.selection.at("query"), 3);
  EXPECT_EQ(app.state.selection.at("replica"), 1);
}

// Every link that a report prints, on a terminal, for GitHub and in its files, opens the spot of
// its line, and what is copied there opens the same view again.
TEST_F(ViewerUi, EveryLinkOfAReportReopensItsSpot) {
  const std::filesystem::path folder = shared_scene().report;
  const Result<Report> report = read_report(folder / "report.json");
  ASSERT_TRUE(report.ok());
  std::string text = report_text(*report, "m", {}) + report_annotations(*report, "m", "m");
  for (const char* file : {"report.md", "report.html", "junit.xml", "report.sarif"})
    text += get_file(folder / file);
  std::set<std::string> links;
  for (std::size_t at = text.find("parscope:"); at != std::string::npos;
       at = text.find("parscope:", at + 1)) {
    std::string link = text.substr(at, text.find_first_of("`<\"\n |", at) - at);
    for (std::size_t amp; (amp = link.find("&amp;")) != std::string::npos;) link.erase(amp + 1, 4);
    link = link.substr(0, link.find("%0A"));
    if (link.find('?') != std::string::npos) links.insert(link);
  }
  std::size_t bad = 0;
  for (const PointRow& row : report->points) bad += is_bad(row) ? 1 : 0;
  EXPECT_GE(links.size(), std::min<std::size_t>(bad, 8));
  must("open " + as_word(folder.string()));
  must("open " + as_word(shared_scene().candidate.string()));
  for (const std::string& link : links) {
    must("first");
    must("mode expected");
    must("follow " + as_word(link));
    settle();
    const Result<DeepLink> parsed = parse_link(link);
    ASSERT_TRUE(parsed.ok()) << link;
    const Selection& s = app.state.selection;
    for (const auto& [name, value] : parsed->fields) {
      const std::string now = name == "step"    ? std::to_string(s.step)
                              : name == "rank"  ? std::to_string(s.rank)
                              : name == "point" ? s.point
                                                : std::to_string(s.at(name, 1 << 30));
      EXPECT_EQ(now, value) << link << ": " << name;
    }
    const State there = app.state;
    const std::string copied = app.link();
    must("first");
    must("mode expected");
    must("follow " + as_word(copied));
    EXPECT_TRUE(app.state == there) << copied;
  }
}

TEST_F(ViewerUi, ScaleMakesTextLarger) {
  open_diverged();
  const float before = ImGui::GetStyle().FontScaleMain;
  must("scale 2.5");
  settle();
  EXPECT_FLOAT_EQ(ImGui::GetStyle().FontScaleMain, 2.5f * before);
}

TEST_F(ViewerUi, ChangedLayoutIsKept) {
  const TempDir config;
  stage.reset();
  stage = std::make_unique<Stage>(app, config.path());
  open_diverged();
  drive([](ImGuiTestContext* ctx) { ctx->WindowClose("Log###log"); });
  EXPECT_FALSE(stage->shell().is_open("log"));
  must("layout compare");
  settle();
  EXPECT_TRUE(stage->shell().is_open("log"));
  must("layout triage");
  settle();
  EXPECT_FALSE(stage->shell().is_open("log"));  // as the user left it
}

// Findings lie before the log, and the strip keeps its share, whatever the size of the window was
// when the layout was left.
TEST_F(ViewerUi, KeptLayoutFitsAWindowOfAnotherSize) {
  const TempDir config;
  stage.reset();
  stage = std::make_unique<Stage>(app, config.path());
  open_diverged();
  const auto share = [](float of) {
    return ImGui::FindWindowByName("Divergence###divergence")->Size.x / of;
  };
  const float before = share(kWidth);
  stage->settle(800, 600);  // a window that is made smaller
  EXPECT_NEAR(share(800), before, 0.01f);
  stage->settle(kWidth, kHeight);
  EXPECT_NEAR(share(kWidth), before, 0.01f);
  stage->shell().save_layout();
  stage.reset();
  stage = std::make_unique<Stage>(app, config.path());
  stage->settle(800, 600);
  EXPECT_NEAR(share(800), before, 0.01f);
  EXPECT_TRUE(ImGui::FindWindowByName("Findings###findings")->DockTabIsVisible);
  EXPECT_TRUE(ImGui::FindWindowByName("Tensor###tensor")->DockTabIsVisible);
}

// ---- pictures -----------------------------------------------------------------------------------

TEST_F(ViewerUi, PicturesAreTheSameBytesEveryTime) {
  open_diverged();
  const auto picture = [&] {
    app.clear_log();  // it tells how one came here
    settle();
    return drawn(kWidth, kHeight);
  };
  const Frame first = picture();
  must("layout compare");
  EXPECT_NE(difference(picture(), first), "");
  must("undo");
  ASSERT_EQ(difference(picture(), first), "");
  // From nothing again.
  stage.reset();
  stage = std::make_unique<Stage>(app);
  EXPECT_EQ(difference(picture(), first), "");
}

// The first panel of each place is in front, whatever the order of the table.
TEST_F(ViewerUi, LayoutsShowTheFirstPanelOfEachPlace) {
  open_diverged();
  for (const LayoutInfo& layout : layout_table()) {
    must("layout " + std::string(layout.name));
    settle();
    for (const std::string_view place : {layout.main, layout.below, layout.right, layout.corner}) {
      const std::string_view front = place.substr(0, place.find(' '));
      if (front.empty()) continue;
      const ImGuiWindow* window = ImGui::FindWindowByName(window_title(front).c_str());
      ASSERT_NE(window, nullptr);
      EXPECT_TRUE(window->DockTabIsVisible) << layout.name << ": " << front;
    }
  }
}

// ---- a monkey -----------------------------------------------------------------------------------

TEST_F(ViewerUi, HundredThousandRandomCommands) {
  open_diverged();
  must("open " + as_word(shared_scene().second.string()));
  std::mt19937_64 random(20261127);
  const auto pick = [&](const auto& all) { return all[random() % std::size(all)]; };
  const std::vector<std::string> points = app.session.points(0, 0, 0);
  const std::vector<std::string> axes = {"replica", "batch", "head",    "kv_head", "query",
                                         "key",     "token", "channel", "slot",    "vocab"};
  const std::vector<std::string> odd = {"",
                                        "-1",
                                        "+1",
                                        "999999999999",
                                        "-999999999999999999999",
                                        "1e9",
                                        "nan",
                                        "abc",
                                        "\"",
                                        "%",
                                        "0",
                                        "7",
                                        "next",
                                        "fit",
                                        "toggle",
                                        "diff",
                                        "tensor",
                                        "x=y",
                                        "1 2 3 4 5 6 7 8 9",
                                        std::string(3000, 'a'),
                                        "model.norm",
                                        "parscope:",
                                        "parscope:?a",
                                        "parscope:0123456789abcdef?step=1"};
  int refused = 0;
  constexpr int kCommands = 100000;
  for (int i = 0; i < kCommands; ++i) {
    std::string line;
    switch (random() % 8) {
      case 0:
        line = pick(bound_chords()).second;
        break;
      case 1:
        line = "go " + pick(points);
        break;
      case 2:
        line = "cell " + pick(axes) + " " + std::to_string(random() % 12);
        break;
      case 3:
        line = "panel " + std::string(pick(panel_table()).name);
        break;
      case 4:
        line = "view " + std::string(pick(panel_table()).name) + " " +
               std::to_string(random() % 90) + " " + std::to_string(random() % 90) + " " +
               std::to_string(random() % 60);
        break;
      case 5:
        line = "follow " + as_word(app.link());
        break;
      case 6:
        line = "set tensor." + std::string(random() % 2 == 0 ? "rows " : "columns ") + pick(axes);
        break;
      default:
        line = std::string(pick(command_table()).name) + " " + pick(odd);
        break;
    }
    if (line.starts_with("open") || line.starts_with("reference") || line.starts_with("close") ||
        line.starts_with("picture"))
      continue;
    if (!app.execute(line).ok()) ++refused;
    if (i % 50 == 0) {
      const int width = 300 + static_cast<int>(random() % 1500),
                height = 200 + static_cast<int>(random() % 900);
      stage->frame_without_window(width, height);
      ASSERT_NE(find_panel(app.state.panel), nullptr) << line;
      ASSERT_NE(find_layout(app.state.layout), nullptr) << line;
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_LT(refused, kCommands * 2 / 3);
  settle();
}

}  // namespace
}  // namespace ps::viewer
