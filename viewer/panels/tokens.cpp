// The tokens of a step: what went in, what counts as padding, what comes out, and what should.
#include <algorithm>
#include <cmath>

#include "viewer/app/commands.h"
#include "viewer/data/computed.h"
#include "viewer/data/places.h"
#include "viewer/data/token_words.h"
#include "viewer/panel.h"

namespace ps::viewer {

namespace {

struct Key {
  std::uint64_t version = 0;
  std::int64_t run = 0, step = 0, rank = 0, batch = 0;
  bool operator==(const Key&) const = default;
};

struct Row {
  std::int64_t token = 0, id = 0, position = 0;
  bool real = true;
  std::int64_t actual = -1, expected = -1;  // the best next token; -1: no logits
  double actual_gap = 0, expected_gap = 0;  // to the second best
  bool broken = false;                      // NaN among the candidate's logits
};

struct Model {
  RunPtr run, reference;
  std::vector<Row> rows;
  std::int64_t past = 0, differing = 0;
  std::string problem;
};

// The best of one row of logits and its lead over the second; NaN is never the best.
void best_of(const TensorView& logits, std::int64_t first, std::int64_t n, std::int64_t& best,
             double& gap, bool& broken) {
  double top = -HUGE_VAL, second = -HUGE_VAL;
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = value_at(logits, first + i);
    if (std::isnan(x)) broken = true;
    if (x > top) {
      second = top;
      top = x;
      best = i;
    } else if (x > second) {
      second = x;
    }
  }
  gap = top - second;
}

// Row of `token` in [B,S,V] or [B,1,V] logits; -1 where it is not there.
std::int64_t logits_row(const TensorView* logits, std::int64_t batch, std::int64_t token,
                        std::int64_t length) {
  if (logits == nullptr || logits->shape.size() != 3 || batch >= logits->shape[0]) return -1;
  if (logits->shape[1] == length) return batch * length + token;
  return logits->shape[1] == 1 && token == length - 1 ? batch : -1;
}

std::shared_ptr<const Model> made(const Key& key, const RunPtr& run, const RunPtr& reference) {
  auto m = std::make_shared<Model>();
  m->run = run;
  m->reference = reference;
  const Run& inputs_of = *(run != nullptr ? run : reference);
  m->past = past_of(inputs_of, key.step, key.rank);
  const TraceStep* step = find_step(inputs_of, key.step, key.rank);
  if (step == nullptr) {
    m->problem = "The run has no step " + std::to_string(key.step) + " of rank " +
                 std::to_string(key.rank) + ".";
    return m;
  }
  const auto inputs = step_inputs(*step, m->past);
  if (!inputs.ok()) {
    m->problem = step->op == StepOp::kForward ? inputs.error().line()
                                              : "This step reorders the cache: no token goes in.";
    return m;
  }
  const TensorView* actual = run == nullptr ? nullptr : run->find(key.step, key.rank, "lm_head");
  const TensorView* expected =
      reference == nullptr ? nullptr : reference->find(key.step, key.rank, "lm_head");
  const std::int64_t keys = m->past + inputs->length,
                     batch = std::min(key.batch, inputs->batch - 1);
  for (std::int64_t t = 0; t < inputs->length; ++t) {
    Row row;
    row.token = t;
    const auto at = static_cast<std::size_t>(batch * inputs->length + t);
    row.id = inputs->input_ids[at];
    row.position = inputs->position_ids ? (*inputs->position_ids)[at] : m->past + t;
    row.real = !inputs->attention_mask ||
               (*inputs->attention_mask)[static_cast<std::size_t>(batch * keys + m->past + t)] != 0;
    bool ignored = false;
    if (const std::int64_t r = logits_row(actual, batch, t, inputs->length); r >= 0)
      best_of(*actual, r * actual->shape[2], actual->shape[2], row.actual, row.actual_gap,
              row.broken);
    if (const std::int64_t r = logits_row(expected, batch, t, inputs->length); r >= 0)
      best_of(*expected, r * expected->shape[2], expected->shape[2], row.expected, row.expected_gap,
              ignored);
    if (row.real && row.actual >= 0 && row.expected >= 0 && row.actual != row.expected)
      ++m->differing;
    m->rows.push_back(row);
  }
  return m;
}

class TokensPanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    const Selection& s = app.state.selection;
    const RunPtr run = app.session.run(s.run), reference = app.session.reference();
    if (run == nullptr && reference == nullptr) {
      centred_text(app.session.empty() ? "Nothing is open."
                                       : "Tokens are in traces: open the one that this is about.");
      return;
    }
    const RowPlace place = row_place(app, run != nullptr ? run.get() : reference.get(), s.step);
    const Key key{app.session.version(), s.run, s.step, s.rank, place.batch};
    const TensorView* logits = app.session.actual(s.run, s.step, s.rank, "lm_head");
    const bool small = logits == nullptr || logits->count() < 300000;
    const auto model = models_.get(app, "tokens", key, small, [=](const std::stop_token&) {
      return made(key, run, reference);
    });
    if (model == nullptr) {
      centred_text("Reading the logits ...");
      return;
    }
    if (!model->problem.empty()) {
      centred_text(model->problem);
      return;
    }
    head(*model, place);
    table(app, ui, *model);
  }

 private:
  static void head(const Model& m, const RowPlace& place) {
    std::string text = "sample " + std::to_string(place.batch) + " of " +
                       std::to_string(place.samples) + ", " + std::to_string(m.past) +
                       " tokens before";
    ImGui::TextDisabled("%s", text.c_str());
    ImGui::SameLine(0, scaled(16));
    if (m.differing > 0) {
      ImGui::TextColored(ImVec4(1, 0.45f, 0.25f, 1), "%lld tokens are followed by another",
                         static_cast<long long>(m.differing));
    } else {
      ImGui::TextDisabled(
          "%s", m.reference == nullptr ? "nothing to compare with" : "every choice as expected");
    }
  }

  void table(App& app, Ui& ui, const Model& m) {
    const ModelConfig* config = app.session.config();
    if (!ImGui::BeginTable("tokens", 6,
                           ImGuiTableFlags_RowBg | ImGuiTableFlags_ScrollY |
                               ImGuiTableFlags_ScrollX | ImGuiTableFlags_SizingFixedFit))
      return;
    ImGui::TableSetupScrollFreeze(0, 1);
    for (const char* name : {"token", "id", "position", "", "next", "lead"})
      ImGui::TableSetupColumn(name);
    ImGui::TableHeadersRow();
    ImGui::PushFont(ui.mono, 0.0f);
    const Selection& s = app.state.selection;
    const bool moved = last_ != s.at("token");
    ImGuiListClipper clipper;
    clipper.Begin(static_cast<int>(m.rows.size()));
    if (moved) clipper.IncludeItemByIndex(static_cast<int>(s.at("token", std::ssize(m.rows))));
    while (clipper.Step()) {
      for (int i = clipper.DisplayStart; i < clipper.DisplayEnd; ++i)
        row(app, config, m.rows[static_cast<std::size_t>(i)], moved);
    }
    last_ = s.at("token");
    ImGui::PopFont();
    ImGui::EndTable();
  }

  static void row(App& app, const ModelConfig* config, const Row& r, bool moved) {
    const bool selected = app.state.selection.at("token") == r.token;
    ImGui::TableNextRow();
    ImGui::TableNextColumn();
    ImGui::PushID(static_cast<int>(r.token));
    if (ImGui::Selectable(std::to_string(r.token).c_str(), selected,
                          ImGuiSelectableFlags_SpanAllColumns)) {
      (void)app.execute("at token=" + std::to_string(r.token) +
                        " query=" + std::to_string(r.token));
    }
    if (selected && moved) ImGui::SetScrollHereY();
    ImGui::PopID();
    if (!r.real)
      ImGui::PushStyleColor(ImGuiCol_Text, ImGui::GetStyleColorVec4(ImGuiCol_TextDisabled));
    ImGui::TableNextColumn();
    ImGui::TextUnformatted(token_words(config, r.id).c_str());
    ImGui::TableNextColumn();
    ImGui::Text("%lld", static_cast<long long>(r.position));
    ImGui::TableNextColumn();
    ImGui::TextUnformatted(r.real ? "" : "padding");
    ImGui::TableNextColumn();
    const bool differs = r.real && r.actual >= 0 && r.expected >= 0 && r.actual != r.expected;
    const bool expected = app.mode() == Mode::kExpected && r.expected >= 0;
    const std::int64_t next = expected ? r.expected : r.actual;
    if (r.broken && !expected) {
      ImGui::TextColored(vec4(colors().broken), "NaN among the logits");
    } else if (next >= 0) {
      ImGui::TextUnformatted(token_words(config, next).c_str());
    }
    if (differs && app.mode() == Mode::kDiff) {
      ImGui::SameLine();
      ImGui::TextColored(ImVec4(1, 0.45f, 0.25f, 1), "expected %s",
                         token_words(config, r.expected).c_str());
    }
    ImGui::TableNextColumn();
    if (next >= 0) ImGui::Text("%.3g", expected ? r.expected_gap : r.actual_gap);
    if (!r.real) ImGui::PopStyleColor();
  }

  Computed<Key, Model> models_;
  std::int64_t last_ = -1;
};

}  // namespace

std::unique_ptr<Panel> make_tokens_panel() { return std::make_unique<TokensPanel>(); }

}  // namespace ps::viewer
