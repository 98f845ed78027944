// What each replica says about the next token: the aggregation's weights as ribbons, how far the
// replicas disagree, which of them flips the token, and the logits without it. All of it was
// computed by `parscope check` and stands in the report.
#include "diff/report/replicas.h"

#include <algorithm>
#include <cmath>

#include "viewer/app/commands.h"
#include "viewer/data/places.h"
#include "viewer/data/token_words.h"
#include "viewer/panel.h"
#include "viewer/ui/canvas.h"

namespace ps::viewer {

namespace {

// Told apart by the colour-blind (after Okabe and Ito).
ImU32 color_of(std::size_t replica, int alpha = 255) {
  constexpr std::uint8_t kColors[8][3] = {{86, 180, 233},  {230, 159, 0},   {0, 158, 115},
                                          {240, 228, 66},  {204, 121, 167}, {213, 94, 0},
                                          {120, 130, 220}, {150, 150, 150}};
  const auto& c = kColors[replica % 8];
  return IM_COL32(c[0], c[1], c[2], alpha);
}

class ReplicasPanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    const auto report = app.session.report(app.state.selection.run);
    if (report == nullptr || !report->replicas || report->replicas->tokens.empty()) {
      const ModelConfig* config = app.session.config();
      centred_text(app.session.empty() ? "Nothing is open."
                   : config != nullptr && config->replicas == 1
                       ? "This model has one replica: there is nothing to weigh."
                       : "Votes of the replicas are in a check's report: parscope check MODEL "
                         "--report DIR, then open DIR.");
      return;
    }
    const ReplicaVotes& votes = *report->replicas;
    const std::vector<const ReplicaToken*> tokens = of_step(app, votes);
    legend(app, votes);
    if (tokens.empty()) {
      centred_text("No votes of this step and sample. The report has those of " + steps_of(votes) +
                   ".");
      return;
    }
    const ReplicaToken& chosen = selected(app, tokens);
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const float below = std::min(room.y * 0.55f, ImGui::GetTextLineHeightWithSpacing() *
                                                     (static_cast<float>(votes.replicas) + 6.5f));
    // Where the panel is low it scrolls, rather than drawing one thing over the other.
    const float least = ImGui::GetTextLineHeight() * 6.5f;
    ribbons(app, tokens, chosen, ImVec2(room.x, std::max(room.y - below - 8, least)));
    if (ImGui::BeginChild("vote")) table(app, ui, votes, chosen);
    ImGui::EndChild();
  }

 private:
  static std::vector<const ReplicaToken*> of_step(const App& app, const ReplicaVotes& votes) {
    const Selection& s = app.state.selection;
    std::vector<const ReplicaToken*> out;
    std::int64_t samples = 1;
    for (const ReplicaToken& t : votes.tokens) samples = std::max(samples, t.batch + 1);
    for (const ReplicaToken& t : votes.tokens) {
      if (t.step == s.step && t.batch == s.at("batch", samples)) out.push_back(&t);
    }
    return out;
  }
  static std::string steps_of(const ReplicaVotes& votes) {
    const auto [low, high] = std::minmax_element(
        votes.tokens.begin(), votes.tokens.end(),
        [](const ReplicaToken& a, const ReplicaToken& b) { return a.step < b.step; });
    return "steps " + std::to_string(low->step) + " to " + std::to_string(high->step);
  }
  static const ReplicaToken& selected(const App& app,
                                      const std::vector<const ReplicaToken*>& tokens) {
    const std::int64_t at = app.state.selection.at("token");
    for (const ReplicaToken* t : tokens) {
      if (t->token == at) return *t;
    }
    return *tokens.back();
  }

  static void legend(App& app, const ReplicaVotes& votes) {
    const float size = ImGui::GetFontSize() * 0.7f;
    for (std::size_t p = 0; p < static_cast<std::size_t>(votes.replicas); ++p) {
      const ImVec2 at = ImGui::GetCursorScreenPos();
      ImGui::GetWindowDrawList()->AddRectFilled(
          ImVec2(at.x, at.y + size * 0.35f), ImVec2(at.x + size, at.y + size * 1.35f), color_of(p));
      ImGui::Dummy(ImVec2(size, size));
      ImGui::SameLine(0, scaled(4));
      const std::string id = std::to_string(p) + "##replica";
      if (ImGui::SmallButton(id.c_str())) (void)app.execute("at replica=" + std::to_string(p));
      ImGui::SameLine(0, scaled(10));
    }
    std::int64_t flips = 0, disagree = 0, changed = 0;
    for (const ReplicaToken& t : votes.tokens) {
      flips += t.flips().empty() ? 0 : 1;
      disagree += t.disagrees() ? 1 : 0;
      changed += t.argmax != t.expected_argmax ? 1 : 0;
    }
    std::string text = std::to_string(votes.tokens.size()) +
                       " tokens: " + std::to_string(disagree) + " disputed, " +
                       std::to_string(flips) + " hang on one replica, " + std::to_string(changed) +
                       " other than expected";
    if (votes.left_out > 0) text += " (" + std::to_string(votes.left_out) + " left out)";
    ImGui::TextDisabled("%s", fitted(text, ImGui::GetContentRegionAvail().x).c_str());
  }

  // Weights of one token in the mode that is shown; in diff their change, from the middle.
  static double weight(const App& app, const ReplicaToken& t, std::size_t p) {
    return app.mode() == Mode::kExpected ? t.expected_weights[p] : t.weights[p];
  }

  static void ribbons(App& app, const std::vector<const ReplicaToken*>& tokens,
                      const ReplicaToken& chosen, ImVec2 size) {
    const ImVec2 corner = ImGui::GetCursorScreenPos();
    const float line = ImGui::GetTextLineHeight(), left = ImGui::CalcTextSize("weights").x + 10;
    const float words = line * 1.3f, js = std::max(line * 2, size.y * 0.22f);
    const float height = std::max(size.y - words - js - 12, line * 2);
    const ImVec2 min(corner.x + left, corner.y + words), max(corner.x + size.x - 4, min.y + height);
    ImGui::SetCursorScreenPos(ImVec2(min.x, corner.y));
    ImGui::InvisibleButton("replica_ribbons",
                           ImVec2(std::max(8.0f, max.x - min.x), std::max(8.0f, size.y)));
    const bool hovered = ImGui::IsItemHovered(), held = ImGui::IsItemActive();
    ImDrawList& list = *ImGui::GetWindowDrawList();
    const float step = (max.x - min.x) / static_cast<float>(tokens.size());
    Canvas published;
    published.min = ImVec2(min.x, corner.y);
    published.max = ImVec2(max.x, corner.y + size.y);
    published.rows = 1;
    published.columns = std::ssize(tokens);
    published.cell_width = step;
    published.cell_height = size.y;
    publish_canvas("replicas", published);
    const ImU32 ink = ImGui::GetColorU32(ImGuiCol_TextDisabled);
    list.AddText(ImVec2(corner.x, min.y), ink, app.mode() == Mode::kDiff ? "change" : "weights");
    list.AddText(ImVec2(corner.x, max.y + 8), ink, "dispute");
    list.AddRectFilled(min, max, IM_COL32(22, 25, 30, 255));
    double widest = 1e-6;
    for (const ReplicaToken* t : tokens) {
      for (std::size_t p = 0; p < t->weights.size(); ++p)
        widest = std::max(widest, std::fabs(t->weights[p] - t->expected_weights[p]));
    }
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const ReplicaToken& t = *tokens[i];
      const float x0 = min.x + step * static_cast<float>(i),
                  x1 = std::max(x0 + 1, x0 + step - (step > 4 ? 1 : 0));
      if (app.mode() == Mode::kDiff) {
        changes(list, t, widest, x0, x1, min.y, max.y);
      } else {
        stack(app, list, t, x0, x1, min.y, max.y);
      }
      const double d = app.mode() == Mode::kExpected ? t.expected_js
                       : app.mode() == Mode::kDiff   ? std::fabs(t.js - t.expected_js)
                                                     : t.js;
      const float bottom = max.y + 6 + js;
      list.AddRectFilled(
          ImVec2(x0,
                 bottom - js * static_cast<float>(std::isfinite(d) ? std::clamp(d, 0.0, 1.0) : 1)),
          ImVec2(x1, bottom),
          t.disagrees() ? IM_COL32(236, 180, 80, 255) : IM_COL32(100, 120, 140, 255));
      if (t.argmax != t.expected_argmax) {
        list.AddTriangleFilled(ImVec2((x0 + x1) / 2 - 4, min.y - 8),
                               ImVec2((x0 + x1) / 2 + 4, min.y - 8),
                               ImVec2((x0 + x1) / 2, min.y - 1), IM_COL32(255, 80, 30, 255));
      } else if (!t.flips().empty()) {
        list.AddCircleFilled(ImVec2((x0 + x1) / 2, min.y - 5), 3,
                             color_of(static_cast<std::size_t>(t.flips()[0])));
      }
      if (&t == &chosen)
        list.AddRect(ImVec2(x0 - 1, min.y - 1), ImVec2(x1 + 1, bottom + 1), IM_COL32_WHITE);
    }
    if (!hovered && !held) return;
    const auto i = static_cast<std::int64_t>((ImGui::GetIO().MousePos.x - min.x) / step);
    if (i < 0 || i >= std::ssize(tokens)) return;
    const ReplicaToken& t = *tokens[static_cast<std::size_t>(i)];
    if (hovered) ImGui::SetTooltip("%s", tooltip(app, t).c_str());
    if (held && &t != &chosen) (void)app.execute_merged("at token=" + std::to_string(t.token));
  }

  static void stack(const App& app, ImDrawList& list, const ReplicaToken& t, float x0, float x1,
                    float top, float bottom) {
    double total = 0;
    for (std::size_t p = 0; p < t.weights.size(); ++p) total += std::max(0.0, weight(app, t, p));
    if (!(total > 0) || !std::isfinite(total)) {
      list.AddRectFilled(ImVec2(x0, top), ImVec2(x1, bottom), u32(colors().broken));
      return;
    }
    double before = 0;
    for (std::size_t p = 0; p < t.weights.size(); ++p) {
      const double w = std::max(0.0, weight(app, t, p)) / total;
      const bool picked = app.state.selection.at("replica") == static_cast<std::int64_t>(p);
      list.AddRectFilled(ImVec2(x0, top + (bottom - top) * static_cast<float>(before)),
                         ImVec2(x1, top + (bottom - top) * static_cast<float>(before + w)),
                         color_of(p, picked ? 255 : 190));
      before += w;
    }
  }
  static void changes(ImDrawList& list, const ReplicaToken& t, double widest, float x0, float x1,
                      float top, float bottom) {
    const auto n = static_cast<float>(t.weights.size());
    const float band = (bottom - top) / n;
    for (std::size_t p = 0; p < t.weights.size(); ++p) {
      const float middle = top + band * (static_cast<float>(p) + 0.5f);
      const double d = t.weights[p] - t.expected_weights[p];
      const float reach =
          std::isfinite(d) ? static_cast<float>(d / widest) * band * 0.48f : band * 0.48f;
      list.AddRectFilled(ImVec2(x0, std::min(middle, middle - reach)),
                         ImVec2(x1, std::max(middle, middle - reach) + 1),
                         std::isfinite(d) ? color_of(p) : u32(colors().broken));
    }
  }

  static std::string tooltip(const App& app, const ReplicaToken& t) {
    const ModelConfig* config = app.session.config();
    std::string text = "token " + std::to_string(t.token) + " " + token_words(config, t.input_id) +
                       "\nnext: " + token_words(config, t.argmax);
    if (t.argmax != t.expected_argmax)
      text += ", expected " + token_words(config, t.expected_argmax);
    text += "\ndispute " + text_of(std::round(t.js * 1e4) / 1e4);
    for (const std::int64_t p : t.flips())
      text += "\nwithout replica " + std::to_string(p) + ": " +
              token_words(config, t.without_argmax[static_cast<std::size_t>(p)]);
    return text;
  }

  static void number(double x) {
    if (std::isfinite(x)) {
      ImGui::Text("%.4g", x);
    } else {
      ImGui::TextUnformatted(std::isnan(x) ? "NaN" : "inf");
    }
  }

  static void table(App& app, Ui& ui, const ReplicaVotes& votes, const ReplicaToken& t) {
    const ModelConfig* config = app.session.config();
    std::string title = "token " + std::to_string(t.token) + " " + token_words(config, t.input_id) +
                        "   next: " + token_words(config, t.argmax);
    title += t.argmax == t.expected_argmax
                 ? " as expected"
                 : "   EXPECTED: " + token_words(config, t.expected_argmax);
    ImGui::TextUnformatted(fitted(title, ImGui::GetContentRegionAvail().x).c_str());
    const int columns = 4 + static_cast<int>(t.top.size()) * 2;
    if (!ImGui::BeginTable("votes", columns,
                           ImGuiTableFlags_RowBg | ImGuiTableFlags_SizingFixedFit |
                               ImGuiTableFlags_ScrollX | ImGuiTableFlags_BordersInnerV,
                           ImVec2(0, std::max(ImGui::GetContentRegionAvail().y,
                                              ImGui::GetTextLineHeightWithSpacing() * 7))))
      return;
    ImGui::TableSetupColumn("replica");
    ImGui::TableSetupColumn("weight");
    ImGui::TableSetupColumn("chooses");
    ImGui::TableSetupColumn("without it");
    for (const auto& c : t.top) {
      ImGui::TableSetupColumn(("logit of " + token_words(config, c.id)).c_str());
      ImGui::TableSetupColumn(("without##" + std::to_string(c.id)).c_str());
    }
    ImGui::TableHeadersRow();
    ImGui::PushFont(ui.mono, 0.0f);
    for (std::size_t p = 0; p < static_cast<std::size_t>(votes.replicas); ++p) {
      ImGui::TableNextRow();
      ImGui::TableNextColumn();
      ImGui::PushStyleColor(ImGuiCol_Text, color_of(p));
      if (ImGui::Selectable(std::to_string(p).c_str(),
                            app.state.selection.at("replica") == static_cast<std::int64_t>(p),
                            ImGuiSelectableFlags_SpanAllColumns))
        (void)app.execute("at replica=" + std::to_string(p));
      ImGui::PopStyleColor();
      ImGui::TableNextColumn();
      number(app.mode() == Mode::kDiff ? t.weights[p] - t.expected_weights[p] : weight(app, t, p));
      ImGui::TableNextColumn();
      const std::int64_t chooses =
          app.mode() == Mode::kExpected ? t.expected_replica_argmax[p] : t.replica_argmax[p];
      ImGui::TextUnformatted(token_words(config, chooses).c_str());
      if (t.replica_argmax[p] != t.expected_replica_argmax[p]) {
        ImGui::SameLine();
        ImGui::TextColored(ImVec4(1, 0.45f, 0.25f, 1), "expected %s",
                           token_words(config, t.expected_replica_argmax[p]).c_str());
      }
      ImGui::TableNextColumn();
      const bool flips = t.without_argmax[p] != t.argmax;
      if (flips) ImGui::PushStyleColor(ImGuiCol_Text, ImVec4(0.95f, 0.75f, 0.35f, 1));
      ImGui::TextUnformatted(
          (token_words(config, t.without_argmax[p]) + (flips ? "  flips" : "")).c_str());
      if (flips) ImGui::PopStyleColor();
      for (const auto& c : t.top) {
        ImGui::TableNextColumn();
        number(c.replica[p]);
        ImGui::TableNextColumn();
        number(c.without[p]);
      }
    }
    ImGui::TableNextRow();
    ImGui::TableNextColumn();
    ImGui::TextUnformatted("all");
    ImGui::TableNextColumn();
    ImGui::TableNextColumn();
    ImGui::TextUnformatted(token_words(config, t.argmax).c_str());
    ImGui::TableNextColumn();
    for (const auto& c : t.top) {
      ImGui::TableNextColumn();
      number(c.logit);
      ImGui::TableNextColumn();
    }
    ImGui::PopFont();
    ImGui::EndTable();
  }
};

}  // namespace

std::unique_ptr<Panel> make_replicas_panel() { return std::make_unique<ReplicasPanel>(); }

}  // namespace ps::viewer
