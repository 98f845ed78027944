#include "tests/viewer/stage_fixture.h"

#include <algorithm>

#include "tests/support/paths.h"
#include "tests/support/temp_dir.h"
#include "viewer/app/commands.h"

namespace ps::viewer {

const Scene& shared_scene() {
  static const TempDir dir;
  static const Scene scene = make_scene(dir.path());
  return scene;
}

std::string difference(const Frame& a, const Frame& b) {
  if (a.width != b.width || a.height != b.height) return "their sizes differ";
  int left = a.width, right = -1, top = a.height, bottom = -1, count = 0;
  for (int y = 0; y < a.height; ++y) {
    for (int x = 0; x < a.width; ++x) {
      const std::size_t i = static_cast<std::size_t>(y) * static_cast<std::size_t>(a.width) +
                            static_cast<std::size_t>(x);
      if (a.pixels[i] == b.pixels[i]) continue;
      ++count;
      left = std::min(left, x);
      right = std::max(right, x);
      top = std::min(top, y);
      bottom = std::max(bottom, y);
    }
  }
  if (count == 0) return "";
  (void)write_picture(a, binary_dir() + "/viewer-now.png");
  (void)write_picture(b, binary_dir() + "/viewer-before.png");
  return "viewer-now.png and viewer-before.png: " + std::to_string(count) + " pixels, x " +
         std::to_string(left) + " to " + std::to_string(right) + ", y " + std::to_string(top) +
         " to " + std::to_string(bottom);
}

void StageTest::SetUp() { stage = std::make_unique<Stage>(app); }

void StageTest::TearDown() {
  if (engine_ != nullptr) ImGuiTestEngine_Stop(engine_);
  stage.reset();
  if (engine_ != nullptr) ImGuiTestEngine_DestroyContext(engine_);
}

void StageTest::must(const std::string& line) {
  const Result<void> done = app.execute(line);
  ASSERT_TRUE(done.ok()) << line << ": " << (done.ok() ? "" : done.error().line());
}

void StageTest::open_diverged() {
  must("open " + as_word(shared_scene().candidate.string()));
  must("reference " + as_word(shared_scene().reference.string()));
  app.jobs.wait_all();
  must("first");
  settle();
}

void StageTest::drive(const std::function<void(ImGuiTestContext*)>& script) {
  if (engine_ == nullptr) {
    engine_ = ImGuiTestEngine_CreateContext();
    ImGuiTestEngineIO& io = ImGuiTestEngine_GetIO(engine_);
    io.ConfigRunSpeed = ImGuiTestRunSpeed_Fast;
    io.ConfigVerboseLevel = ImGuiTestVerboseLevel_Warning;
    io.ConfigVerboseLevelOnError = ImGuiTestVerboseLevel_Info;
    io.ConfigLogToTTY = true;
    io.ConfigNoThrottle = true;
    io.ConfigFixedDeltaTime = 1.0f / 60;
    io.ConfigSavedSettings = false;
    ImGuiTestEngine_Start(engine_, ImGui::GetCurrentContext());
    // The engine takes a context that is frames ahead of it for one without hooks.
    stage->frame_without_window(kWidth, kHeight);
  }
  ImGuiTestEngine_UnregisterAllTests(engine_);
  ImGuiTest* test = IM_REGISTER_TEST(engine_, "viewer", "script");
  test->TestFunc = script;
  ImGuiTestEngine_QueueTest(engine_, test, ImGuiTestRunFlags_RunFromCommandLine);
  constexpr int kMostFrames = 20000;
  for (int i = 0; i < kMostFrames && !ImGuiTestEngine_IsTestQueueEmpty(engine_); ++i) {
    stage->frame_without_window(kWidth, kHeight);
    ImGuiTestEngine_PreSwap(engine_);
    ImGuiTestEngine_PostSwap(engine_);
  }
  ASSERT_TRUE(ImGuiTestEngine_IsTestQueueEmpty(engine_)) << "the script does not end";
  EXPECT_EQ(test->Output.Status, ImGuiTestStatus_Success);
}

}  // namespace ps::viewer
