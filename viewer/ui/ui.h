// What panels draw with beside Dear ImGui's own widgets: fonts, colours, pictures as textures, and
// a matrix of cells that can be moved, zoomed and pointed at.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <imgui.h>

#include "diff/picture/colors.h"
#include "viewer/app/app.h"

namespace ps::viewer {

// Pixels that panels draw by themselves, 0xAABBGGRR, shown one to one.
class Picture {
 public:
  explicit Picture(std::vector<ImTextureData*>& retired) : retired_(retired) {}
  ~Picture();
  Picture(const Picture&) = delete;
  Picture& operator=(const Picture&) = delete;

  // Room for w x h pixels, which the caller fills; commit() then shows them.
  std::uint32_t* resize(int w, int h);
  void commit();
  // Instead of resize: w x h pixels that are ready, exchanged for older ones.
  void take(std::vector<std::uint32_t>& pixels, int w, int h);
  void draw(ImDrawList& list, ImVec2 min) const;
  int width() const { return width_; }
  int height() const { return height_; }

 private:
  std::vector<ImTextureData*>& retired_;
  ImTextureData* texture_ = nullptr;
  int width_ = 0, height_ = 0;
  std::vector<std::uint32_t> pixels_;
};

class Ui {
 public:
  ~Ui();                   // before the ImGui context goes
  ImFont* text = nullptr;  // proportional
  ImFont* mono = nullptr;  // numbers, names of points

  // A picture by name, made at first use.
  Picture& picture(const std::string& name);
  void new_frame();  // deletes textures that the backend has let go

 private:
  std::vector<ImTextureData*> retired_;
  std::map<std::string, std::unique_ptr<Picture>> pictures_;
};

// Pixels at a scale of 1, as many as they are at the scale of the text.
inline float scaled(float pixels) { return std::round(pixels * ImGui::GetStyle().FontScaleMain); }
inline ImU32 u32(Color c, std::uint8_t alpha = 255) { return IM_COL32(c.r, c.g, c.b, alpha); }
ImVec4 vec4(Color c);
const ps::Palette& colors();  // of diff/picture, dark

// Text that is cut with "..." to what fits into `width`.
std::string fitted(const std::string& text, float width);
// A small button that runs a command; its tooltip is the command's help and key.
bool command_button(App& app, const char* label, const std::string& line);
// Words of one choice beside each other: {"expected", "mode expected"}, ...; `now` is the one on.
void choice(App& app, std::string_view now,
            const std::vector<std::pair<std::string, std::string>>& words_and_lines);
void mono_text(Ui& ui, const std::string& text);
void faint_text(const std::string& text);
void cell_text(const std::string& text);               // in a table's next column
inline constexpr ImVec4 kWrongInk{1, 0.6f, 0.35f, 1};  // of words about what is wrong
// A paragraph in the middle of what is left of the window.
void centred_text(const std::string& text);

}  // namespace ps::viewer
