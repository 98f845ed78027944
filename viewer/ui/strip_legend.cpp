#include "viewer/ui/strip_legend.h"

#include <cmath>
#include <string>
#include <utility>

#include "diff/report/strip_picture.h"
#include "viewer/ui/ui.h"

namespace ps::viewer {

namespace {

// A cell of the strip that has this letter.
StripCell example(char letter) {
  StripCell cell{true, PointStatus::kOk, 0.1, false};
  if (letter == ':') cell.ratio = 0.9;
  if (letter >= '1' && letter <= '9')
    cell = {true, PointStatus::kDiverged, std::pow(10.0, letter - '0') / 2, false};
  constexpr std::pair<char, PointStatus> kStates[] = {
      {'~', PointStatus::kPropagated}, {'h', PointStatus::kHealed},  {'N', PointStatus::kNonfinite},
      {'S', PointStatus::kShape},      {'?', PointStatus::kMissing}, {'_', PointStatus::kIgnored}};
  for (const auto& [of, status] : kStates) {
    if (of == letter) cell.status = status;
  }
  return cell;
}

}  // namespace

float strip_legend(const std::vector<LegendEntry>& entries, bool draw) {
  const float line = ImGui::GetTextLineHeightWithSpacing(), font = ImGui::GetFontSize();
  const ImVec2 corner = ImGui::GetCursorScreenPos();
  const float room = ImGui::GetContentRegionAvail().x, box = font * 1.5f;
  float x = 0, y = 4;
  ImDrawList& list = *ImGui::GetWindowDrawList();
  for (const LegendEntry& entry : entries) {
    const bool digit = entry.letter >= '1' && entry.letter <= '9';
    const std::string letters = digit ? "1-9" : std::string(1, entry.letter);
    const float text = ImGui::CalcTextSize(entry.meaning.c_str()).x;
    if (x > 0 && x + box + 5 + text > room) {
      x = 0;
      y += line;
    }
    if (draw) {
      const ImVec2 at(corner.x + x, corner.y + y), end(at.x + box, at.y + font + 1);
      const Color color = color_of(example(entry.letter), Theme::kDark);
      list.AddRectFilled(at, end, u32(color));
      const ImVec2 size = ImGui::CalcTextSize(letters.c_str());
      list.AddText(ImVec2((at.x + end.x - size.x) / 2, (at.y + end.y - size.y) / 2),
                   u32(ink_on(color)), letters.c_str());
      list.AddText(ImVec2(end.x + 5, at.y), ImGui::GetColorU32(ImGuiCol_TextDisabled),
                   entry.meaning.c_str());
    }
    x += box + 5 + text + font;
  }
  if (draw) ImGui::Dummy(ImVec2(0, y + line));
  return y + line + 6;
}

}  // namespace ps::viewer
