#include "viewer/ui/ui.h"

#include <algorithm>
#include <cstring>

#include <imgui_internal.h>

#include "viewer/app/commands.h"

namespace ps::viewer {

Picture::~Picture() {
  if (texture_ != nullptr) retired_.push_back(texture_);
}

std::uint32_t* Picture::resize(int w, int h) {
  width_ = std::clamp(w, 1, 8192);
  height_ = std::clamp(h, 1, 8192);
  pixels_.resize(static_cast<std::size_t>(width_) * static_cast<std::size_t>(height_));
  return pixels_.data();
}

void Picture::take(std::vector<std::uint32_t>& pixels, int w, int h) {
  resize(w, h);
  if (width_ == w && height_ == h && pixels.size() == pixels_.size()) pixels_.swap(pixels);
}

// The texture only grows, in steps of 256 pixels, so that a window that is being resized does not
// make a new one in every frame.
void Picture::commit() {
  if (texture_ == nullptr || texture_->Width < width_ || texture_->Height < height_) {
    const auto step = [](int n, int had) { return std::max(had, (n + 255) / 256 * 256); };
    const int w = step(width_, texture_ == nullptr ? 0 : texture_->Width);
    const int h = step(height_, texture_ == nullptr ? 0 : texture_->Height);
    if (texture_ != nullptr) {
      texture_->WantDestroyNextFrame = true;
      retired_.push_back(texture_);
    }
    texture_ = IM_NEW(ImTextureData)();
    texture_->Create(ImTextureFormat_RGBA32, w, h);
    texture_->UseColors = true;
    ImGui::RegisterUserTexture(texture_);
  }
  for (int y = 0; y < height_; ++y) {
    std::memcpy(texture_->GetPixelsAt(0, y),
                pixels_.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width_),
                static_cast<std::size_t>(width_) * sizeof(std::uint32_t));
  }
  ImTextureDataQueueUpload(texture_, 0, 0, width_, height_);
}

void Picture::draw(ImDrawList& list, ImVec2 min) const {
  if (texture_ == nullptr) return;
  const auto w = static_cast<float>(width_), h = static_cast<float>(height_);
  const ImVec2 end(w / static_cast<float>(texture_->Width),
                   h / static_cast<float>(texture_->Height));
  min = ImVec2(std::floor(min.x), std::floor(min.y));
  list.AddImage(texture_->GetTexRef(), min, ImVec2(min.x + w, min.y + h), ImVec2(0, 0), end);
}

Ui::~Ui() {
  pictures_.clear();
  for (ImTextureData* texture : retired_) {
    ImGui::UnregisterUserTexture(texture);
    IM_DELETE(texture);
  }
}

Picture& Ui::picture(const std::string& name) {
  std::unique_ptr<Picture>& picture = pictures_[name];
  if (picture == nullptr) picture = std::make_unique<Picture>(retired_);
  return *picture;
}

void Ui::new_frame() {
  std::erase_if(retired_, [](ImTextureData* texture) {
    if (texture->Status != ImTextureStatus_Destroyed) return false;
    ImGui::UnregisterUserTexture(texture);
    IM_DELETE(texture);
    return true;
  });
}

ImVec4 vec4(Color c) { return ImGui::ColorConvertU32ToFloat4(u32(c)); }
const ps::Palette& colors() { return palette_of(Theme::kDark); }

std::string fitted(const std::string& text, float width) {
  if (ImGui::CalcTextSize(text.c_str()).x <= width) return text;
  std::size_t low = 0, high = text.size();
  while (low < high) {
    const std::size_t middle = (low + high + 1) / 2;
    const std::string cut = text.substr(0, middle) + "...";
    if (ImGui::CalcTextSize(cut.c_str()).x <= width) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  while (low > 0 && (static_cast<unsigned char>(text[low]) & 0xc0) == 0x80) --low;  // whole letters
  return text.substr(0, low) + "...";
}

namespace {

void command_tooltip(const std::string& line) {
  if (!ImGui::IsItemHovered(ImGuiHoveredFlags_DelayShort)) return;
  const CommandInfo* command = find_command(line.substr(0, line.find(' ')));
  if (command == nullptr) return;
  std::string text(command->help);
  for (const KeyBinding& binding : key_bindings()) {
    if (binding.line == line) text += "\nkey: " + binding.key;
  }
  ImGui::SetTooltip("%s", text.c_str());
}

}  // namespace

bool command_button(App& app, const char* label, const std::string& line) {
  const bool pressed = ImGui::Button(label);
  command_tooltip(line);
  if (pressed) (void)app.execute(line);
  return pressed;
}

void choice(App& app, std::string_view now,
            const std::vector<std::pair<std::string, std::string>>& words_and_lines) {
  bool first = true;
  for (const auto& [word, line] : words_and_lines) {
    if (!first) ImGui::SameLine(0, scaled(1));
    first = false;
    const bool on = word == now;
    if (on) ImGui::PushStyleColor(ImGuiCol_Button, ImGui::GetStyleColorVec4(ImGuiCol_ButtonActive));
    const bool pressed = ImGui::Button(word.c_str());
    if (on) ImGui::PopStyleColor();
    command_tooltip(line);
    if (pressed) (void)app.execute(line);
  }
}

void mono_text(Ui& ui, const std::string& text) {
  ImGui::PushFont(ui.mono, 0.0f);
  ImGui::TextUnformatted(text.c_str());
  ImGui::PopFont();
}

void faint_text(const std::string& text) {
  ImGui::PushStyleColor(ImGuiCol_Text, ImGui::GetStyleColorVec4(ImGuiCol_TextDisabled));
  ImGui::TextWrapped("%s", text.c_str());
  ImGui::PopStyleColor();
}

void cell_text(const std::string& text) {
  ImGui::TableNextColumn();
  ImGui::TextUnformatted(text.c_str());
}

void centred_text(const std::string& text) {
  const ImVec2 room = ImGui::GetContentRegionAvail();
  const float width = std::min(room.x * 0.9f, ImGui::GetFontSize() * 36);
  const ImVec2 size = ImGui::CalcTextSize(text.c_str(), nullptr, false, width);
  ImGui::SetCursorPos(ImVec2(ImGui::GetCursorPosX() + std::max(0.0f, (room.x - size.x) / 2),
                             ImGui::GetCursorPosY() + std::max(0.0f, (room.y - size.y) * 0.4f)));
  ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + size.x + 1);
  ImGui::PushStyleColor(ImGuiCol_Text, ImGui::GetStyleColorVec4(ImGuiCol_TextDisabled));
  ImGui::TextUnformatted(text.c_str());
  ImGui::PopStyleColor();
  ImGui::PopTextWrapPos();
}

}  // namespace ps::viewer
