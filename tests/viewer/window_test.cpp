// parscope-viewer as a user starts it: pictures without a display, a real window on Xvfb, and no
// work while nothing happens.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#define GLFW_INCLUDE_NONE
#include <GLFW/glfw3.h>

#include "diff/picture/png.h"
#include "diff/report/link.h"
#include "diff/report/stored.h"
#include "tests/support/display.h"
#include "tests/support/processes.h"
#include "tests/viewer/stage_fixture.h"
#include "viewer/present/window.h"

namespace ps::viewer {
namespace {

std::string viewer_program() { return binary_dir() + "/parscope-viewer"; }

std::vector<std::string> diverged(const std::vector<std::string>& more) {
  std::vector<std::string> words = {viewer_program(), shared_scene().candidate.string(),
                                    "--reference",    shared_scene().reference.string(),
                                    "--size",         "1000x640"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST(ViewerProgram, DrawsAPictureWithoutADisplay) {
  const TempDir dir;
  const std::string a = dir / "a.png", b = dir / "b.png";
  for (const std::string& file : {a, b}) {
    const Ran ran = run_program(diverged({"--screenshot", file}), {"DISPLAY="});
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.out + ran.err, "");
  }
  EXPECT_EQ(get_file(a).substr(1, 3), "PNG");
  EXPECT_TRUE(get_file(a) == get_file(b));
}

TEST(ViewerProgram, ParscopeViewStartsIt) {
  const TempDir dir;
  const Ran ran =
      run_parscope({"view", shared_scene().report.string(), "--screenshot", dir / "x.png",
                    "--panel", "divergence", "--size=640x480", "--do", "scale 1.25"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_GT(get_file(dir / "x.png").size(), 1000u);
}

TEST(ViewerProgram, LinkOfTheReportReopensTheSpotAndAnotherOneIsRefused) {
  const TempDir dir;
  const Result<Report> report = read_report(shared_scene().report / "report.json");
  ASSERT_TRUE(report.ok());
  const std::string link = ps::to_string(link_to(capture_of(*report), report->findings[0]));
  const std::string html = get_file(shared_scene().report / "report.html");
  EXPECT_NE(html.find(capture_of(*report)), std::string::npos);
  const std::vector<std::string> words = {viewer_program(), shared_scene().report.string(),
                                          "--screenshot", dir / "x.png", "--link"};
  std::vector<std::string> good = words, bad = words;
  good.push_back(link);
  EXPECT_EQ(run_program(good).code, 0);
  bad.push_back("parscope:0123456789abcdef?step=0");
  const Ran refused = run_program(bad);
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("another capture"), std::string::npos) << refused.err;
  EXPECT_EQ(refused.lines_of_err(), 1);
}

TEST(ViewerProgram, BadWordsAreOneLineAndExitTwo) {
  const TempDir dir;
  const std::vector<std::vector<std::string>> all = {
      {"--size", "axb"}, {"--size", "10x10"}, {"--panel", "nothing"}, {"--layout", "nothing"},
      {"--odd", "1"},    {"--link"},          {"/no/such/file"},      {"--do", "mode sideways"},
      {"--scale", "9"}};
  for (std::vector<std::string> words : all) {
    words.insert(words.begin(), {viewer_program(), "--screenshot", dir / "never.png"});
    const Ran ran = run_program(words);
    EXPECT_EQ(ran.code, 2) << words.back() << ": " << ran.err;
    EXPECT_EQ(ran.lines_of_err(), 1) << ran.err;
    EXPECT_TRUE(ran.err.starts_with("parscope")) << ran.err;
  }
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "never.png"));
}

TEST(ViewerProgram, WithoutADisplayItSaysWhatNeedsNone) {
  const Ran ran = run_program({viewer_program(), shared_scene().report.string()},
                              {"DISPLAY=", "WAYLAND_DISPLAY="});
  EXPECT_EQ(ran.code, 3);
  EXPECT_NE(ran.err.find("--screenshot"), std::string::npos) << ran.err;
}

// What the window shows, read back from it, is the picture that is drawn without one.
TEST(ViewerWindow, ShowsTheSameBytesAsThePicture) {
  const VirtualDisplay display;
  if (display.name().empty()) GTEST_SKIP() << "no Xvfb here";
  const TempDir dir, config;
  const std::vector<std::string> environment = {"DISPLAY=" + display.name(),
                                                "XDG_CONFIG_HOME=" + config.path().string(),
                                                "LIBGL_ALWAYS_SOFTWARE=1"};
  const Ran window =
      run_program(diverged({"--frames", "12", "--frame-picture", dir / "window.png"}), environment);
  ASSERT_EQ(window.code, 0) << window.err;
  const Ran gl = run_program(
      diverged({"--frames", "12", "--gl", "--frame-picture", dir / "gl.png"}), environment);
  ASSERT_EQ(gl.code, 0) << gl.err;
  const Ran picture = run_program(diverged({"--screenshot", dir / "picture.png"}));
  ASSERT_EQ(picture.code, 0) << picture.err;
  EXPECT_TRUE(get_file(dir / "window.png") == get_file(dir / "picture.png"));
  EXPECT_GT(get_file(dir / "gl.png").size(),
            get_file(dir / "picture.png").size() / 2);  // not blank
  EXPECT_TRUE(std::filesystem::exists(config.path() / "parscope" / "layout-triage.ini"));
}

// A report's page holds what `parscope view --screenshot` draws, as its captions say.
TEST(ViewerProgram, ReportEmbedsItsPictures) {
  const TempDir dir;
  const std::string report = dir / "bad";
  const Ran diff = run_parscope({"diff", shared_scene().candidate.string(),
                                 shared_scene().reference.string(), "--report", report, "--quiet"});
  ASSERT_EQ(diff.code, 1) << diff.err;
  const Ran view = run_parscope({"view", report, "--screenshot", dir / "x.png", "--panel",
                                 "divergence", "--size", "1000x720"});
  ASSERT_EQ(view.code, 0) << view.err;
  const std::string png = get_file(dir / "x.png"), html = get_file(report + "/report.html");
  EXPECT_TRUE(png == get_file(report + "/view-divergence.png"));
  EXPECT_TRUE(html.find(base64(png)) != std::string::npos);
  EXPECT_NE(html.find("parscope view bad --screenshot view-divergence.png --panel divergence "
                      "--size 1000x720"),
            std::string::npos);
}

// A second program hands its link to the window that is open, which answers for it.
TEST(ViewerWindow, TakesLinksFromAnotherProgram) {
  const VirtualDisplay display;
  if (display.name().empty()) GTEST_SKIP() << "no Xvfb here";
  const TempDir dir, config;
  std::filesystem::create_directories(config / "run");
  ::chmod((config / "run").c_str(), 0700);
  const std::vector<std::string> environment = {
      "DISPLAY=" + display.name(), "XDG_CONFIG_HOME=" + config.path().string(),
      "XDG_RUNTIME_DIR=" + (config / "run").string(), "LIBGL_ALWAYS_SOFTWARE=1"};
  const std::string link =
      "parscope:" + capture_of(*read_report(shared_scene().report / "report.json")) +
      "?step=0&point=model.norm&token=3";
  EXPECT_EQ(run_program({viewer_program(), link}, environment).code, 2);  // none runs yet
  Process open({viewer_program(), shared_scene().report.string()}, environment);
  Ran told;
  comes_true(
      [&] {
        told = run_program({viewer_program(), link}, environment);
        return told.code == 0;
      },
      std::chrono::seconds(30));
  EXPECT_EQ(told.code, 0) << told.err;
  const Ran other =
      run_program({viewer_program(), "parscope:0123456789abcdef?step=0"}, environment);
  EXPECT_EQ(other.code, 2);
  EXPECT_NE(other.err.find("another capture"), std::string::npos) << other.err;
  EXPECT_EQ(run_program({viewer_program(), "--reuse", "--do", "quit"}, environment).code, 0);
  const Ran window = open.wait(std::chrono::seconds(30));
  EXPECT_EQ(window.code, 0) << window.err;
}

TEST(ViewerWindow, DoesNothingWhileNothingHappens) {
  const VirtualDisplay display;
  if (display.name().empty()) GTEST_SKIP() << "no Xvfb here";
  const TempDir config;
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setenv("DISPLAY", display.name().c_str(), 1);
    ::setenv("XDG_CONFIG_HOME", config.path().c_str(), 1);
    ::setenv("LIBGL_ALWAYS_SOFTWARE", "1", 1);
    const std::string program = viewer_program(), file = shared_scene().report.string();
    ::execl(program.c_str(), program.c_str(), file.c_str(), nullptr);
    ::_exit(127);
  }
  const auto ticks = [&] {  // user and system time of the process, in hundredths of a second
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string line;
    std::getline(stat, line);
    std::istringstream rest(line.substr(line.rfind(')') + 2));
    std::string word;
    long used = 0;
    for (int i = 0; i < 13 && rest >> word; ++i) {
      if (i == 11 || i == 12) used += std::stol(word);
    }
    return used;
  };
  // Until it has started, however slow the machine is now.
  long before = 0;
  for (int i = 0; i < 60; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    const long now = ticks();
    if (now > 0 && now == before) break;
    before = now;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  const long after = ticks();
  ::kill(pid, SIGTERM);
  ::waitpid(pid, nullptr, 0);
  EXPECT_GT(before, 0) << "it did not run";
  EXPECT_LE(after - before, 1);
}

// Files dropped onto the window, by the callback that GLFW holds for it.
TEST(ViewerWindow, OpensWhatIsDroppedOntoIt) {
  const VirtualDisplay display;
  if (display.name().empty()) GTEST_SKIP() << "no Xvfb here";
  ::setenv("DISPLAY", display.name().c_str(), 1);
  ::setenv("LIBGL_ALWAYS_SOFTWARE", "1", 1);
  const std::string candidate = shared_scene().candidate.string(),
                    second = shared_scene().second.string(), bad = display.name() + "-gone";
  App app;
  Stage stage(app);
  WindowOptions options;
  options.frames = 30;
  std::size_t runs_before = 99;
  options.before_frame = [&](long shown) {
    if (shown != 5) return;
    runs_before = app.session.runs().size();
    GLFWwindow* window = glfwGetCurrentContext();
    const GLFWdropfun drop = glfwSetDropCallback(window, nullptr);
    glfwSetDropCallback(window, drop);
    ASSERT_NE(drop, nullptr);
    const char* paths[] = {candidate.c_str(), bad.c_str(), second.c_str()};
    drop(window, 3, paths);
  };
  const Result<void> done = run_window(app, stage, options);
  ASSERT_TRUE(done.ok()) << done.error().line();
  EXPECT_EQ(runs_before, 0u);
  ASSERT_EQ(app.session.runs().size(), 2u);
  EXPECT_EQ(app.log().back().kind, LogLine::Kind::kError);
  EXPECT_NE(app.log().back().text.find(bad), std::string::npos) << app.log().back().text;
}

}  // namespace
}  // namespace ps::viewer
