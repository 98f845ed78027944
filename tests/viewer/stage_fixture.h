// A viewer without a window, driven by Dear ImGui's Test Engine or by commands.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <gtest/gtest.h>
#include <imgui.h>
#include <imgui_te_context.h>
#include <imgui_te_engine.h>

#include "tests/viewer/scene.h"
#include "viewer/present/stage.h"

namespace ps::viewer {

const Scene& shared_scene();  // made once

// Where two pictures differ, in words; empty: nowhere.
std::string difference(const Frame& a, const Frame& b);

class StageTest : public ::testing::Test {
 protected:
  static constexpr int kWidth = 1600, kHeight = 1000;
  App app;
  std::unique_ptr<Stage> stage;

  void SetUp() override;
  void TearDown() override;
  // The candidate beside the reference, looked at where it went wrong first.
  void open_diverged();
  void must(const std::string& line);  // execute, and fail the test where it fails
  void settle() { stage->settle(kWidth, kHeight); }
  // Runs `script` with simulated input until it ends; any of its checks that fails is a failure.
  void drive(const std::function<void(ImGuiTestContext*)>& script);

 private:
  ImGuiTestEngine* engine_ = nullptr;
};

}  // namespace ps::viewer
