// What was done, and a line to type commands into.
#include <array>
#include <cstring>

#include "viewer/panel.h"

namespace ps::viewer {

namespace {

class LogPanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    const float line = ImGui::GetFrameHeightWithSpacing();
    ImGui::PushFont(ui.mono, 0.0f);
    if (ImGui::BeginChild("lines", ImVec2(0, -line))) {
      for (const LogLine& l : app.log()) {
        const bool error = l.kind == LogLine::Kind::kError;
        const bool command = l.kind == LogLine::Kind::kCommand;
        if (error) ImGui::PushStyleColor(ImGuiCol_Text, ImVec4(1, 0.62f, 0.38f, 1));
        if (command)
          ImGui::PushStyleColor(ImGuiCol_Text, ImGui::GetStyleColorVec4(ImGuiCol_TextDisabled));
        ImGui::TextWrapped("%s%s", command ? "> " : "", l.text.c_str());
        if (error || command) ImGui::PopStyleColor();
      }
      if (app.log().size() != seen_) ImGui::SetScrollHereY(1);
      seen_ = app.log().size();
    }
    ImGui::EndChild();
    ImGui::SetNextItemWidth(-1);
    const ImGuiInputTextFlags flags =
        ImGuiInputTextFlags_EnterReturnsTrue | ImGuiInputTextFlags_CallbackHistory;
    if (ImGui::InputTextWithHint("##command", "a command; Ctrl+P finds them", typed_.data(),
                                 typed_.size(), flags, &history, this)) {
      const std::string text = typed_.data();
      typed_ = {};
      if (!text.empty()) {
        lines_.push_back(text);
        at_ = lines_.size();
        (void)app.execute(text);
      }
      ImGui::SetKeyboardFocusHere(-1);
    }
    ImGui::PopFont();
  }

 private:
  static int history(ImGuiInputTextCallbackData* data) {
    auto& self = *static_cast<LogPanel*>(data->UserData);
    if (data->EventKey == ImGuiKey_UpArrow && self.at_ > 0) --self.at_;
    if (data->EventKey == ImGuiKey_DownArrow && self.at_ < self.lines_.size()) ++self.at_;
    data->DeleteChars(0, data->BufTextLen);
    if (self.at_ < self.lines_.size()) data->InsertChars(0, self.lines_[self.at_].c_str());
    return 0;
  }
  std::array<char, 2048> typed_{};
  std::vector<std::string> lines_;
  std::size_t at_ = 0, seen_ = 0;
};

}  // namespace

std::unique_ptr<Panel> make_log_panel() { return std::make_unique<LogPanel>(); }

}  // namespace ps::viewer
