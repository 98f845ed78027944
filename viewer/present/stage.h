// Dear ImGui's context with the shell in it, and no window: frames are made on request and drawn by
// the CPU, or not at all. Pictures, tests and the window's software mode use it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "core/result.h"
#include "viewer/present/soft.h"
#include "viewer/ui/shell.h"

struct ImGuiContext;

namespace ps::viewer {

class Stage {
 public:
  explicit Stage(App& app, std::filesystem::path config = {});
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  Shell& shell() { return *shell_; }
  // Everything between NewFrame and Render; display size and time are set by the caller.
  void frame();
  // A frame of `width` x `height` pixels whose textures are taken over at once.
  void frame_without_window(int width, int height);
  // Until nothing is on its way: jobs done, layout settled.
  void settle(int width, int height);

 private:
  App& app_;
  ImGuiContext* context_;
  std::unique_ptr<Shell> shell_;
};

inline constexpr std::uint32_t kBackground = 0xff161310u;  // 0xAABBGGRR

// The window as it is now, drawn by the CPU.
Frame drawn(int width, int height);
Result<void> write_picture(const Frame& frame, const std::filesystem::path& path);
// "1600x1000".
struct Size {
  int width = 1600, height = 1000;
};
Result<Size> size_of_words(const std::string& words);

}  // namespace ps::viewer
