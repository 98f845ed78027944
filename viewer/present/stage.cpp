#include "viewer/present/stage.h"

#include <imgui.h>
#include <imgui_internal.h>

#include "core/file.h"
#include "diff/picture/png.h"

namespace ps::viewer {

Stage::Stage(App& app, std::filesystem::path config) : app_(app), context_(ImGui::CreateContext()) {
  ImGuiIO& io = ImGui::GetIO();
  io.IniFilename = nullptr;
  io.LogFilename = nullptr;
  io.ConfigFlags |= ImGuiConfigFlags_DockingEnable;
  io.ConfigWindowsMoveFromTitleBarOnly = true;
  // Ctrl+Tab is a command as all keys are (`panel +1`), not Dear ImGui's own list of windows.
  context_->ConfigNavWindowingKeyNext = context_->ConfigNavWindowingKeyPrev = ImGuiKey_None;
  io.BackendFlags |= ImGuiBackendFlags_RendererHasTextures | ImGuiBackendFlags_RendererHasVtxOffset;
  io.BackendRendererName = "parscope";
  shell_ = std::make_unique<Shell>(app, std::move(config));
}

Stage::~Stage() {
  ImGui::SetCurrentContext(context_);
  shell_.reset();
  // Those of the fonts: the pictures' went with the shell, whatever the list of the last frame
  // says.
  for (ImTextureData* texture : ImGui::GetIO().Fonts->TexList) {
    if (texture->RefCount == 1 && texture->BackendUserData == nullptr) {
      texture->SetTexID(ImTextureID_Invalid);
      texture->SetStatus(ImTextureStatus_Destroyed);
    }
  }
  ImGui::DestroyContext(context_);
}

void Stage::frame() {
  shell_->before_frame();
  ImGui::NewFrame();
  shell_->draw();
  ImGui::Render();
}

void Stage::frame_without_window(int width, int height) {
  ImGuiIO& io = ImGui::GetIO();
  io.DisplaySize = ImVec2(static_cast<float>(width), static_cast<float>(height));
  if (io.DeltaTime <= 0) io.DeltaTime = 1.0f / 60;
  frame();
  accept_textures(*ImGui::GetDrawData());
}

void Stage::settle(int width, int height) {
  constexpr int kMostFrames = 50;
  frame_without_window(width, height);
  for (int i = 0; i < kMostFrames; ++i) {
    app_.jobs.wait_all();
    frame_without_window(width, height);
    if (!shell_->wants_frame() && app_.jobs.label().empty()) return;
  }
}

Frame drawn(int width, int height) {
  Frame frame;
  frame.resize(width, height);
  rasterise(*ImGui::GetDrawData(), frame, kBackground);
  return frame;
}

Result<void> write_picture(const Frame& frame, const std::filesystem::path& path) {
  return write_text(path, png_bytes(frame.image()));
}

Result<Size> size_of_words(const std::string& words) {
  const std::size_t cross = words.find('x');
  Size size;
  if (cross != std::string::npos) {
    const Result<std::int64_t> w = integer_of(words.substr(0, cross), "--size", 64, 8192);
    const Result<std::int64_t> h = integer_of(words.substr(cross + 1), "--size", 64, 8192);
    if (w.ok() && h.ok()) return Size{static_cast<int>(*w), static_cast<int>(*h)};
  }
  return bad_input("--size", "must be a width and a height of 64 to 8192 pixels", "1600x1000",
                   words);
}

}  // namespace ps::viewer
