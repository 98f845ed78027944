// The key/value cache as an address space: layers by slots, who wrote what and when, and which slot
// does not hold what it should.
#include <algorithm>
#include <cmath>

#include "diff/picture/colors.h"
#include "diff/report/strip.h"
#include "diff/view/cache_map.h"
#include "viewer/app/commands.h"
#include "viewer/data/computed.h"
#include "viewer/data/places.h"
#include "viewer/panel.h"
#include "viewer/ui/canvas.h"

namespace ps::viewer {

namespace {

using view::SlotState;

struct Key {
  std::uint64_t version = 0;
  std::int64_t run = 0, step = 0, rank = 0, row = 0;
  view::CacheSide side = view::CacheSide::kBoth;
  bool operator==(const Key&) const = default;
};

struct Model {
  RunPtr run, reference;
  view::CacheMap actual, expected;
  std::vector<double> errors;  // [layers, slots] of `actual`; NaN: a class differs
  bool compared = false;
  std::int64_t differing = 0;
  double bound = 0;
};

view::CacheSide side_of(const App& app) {
  const std::string word = app.state.display.option("kv.side", "both");
  return word == "keys"     ? view::CacheSide::kKeys
         : word == "values" ? view::CacheSide::kValues
                            : view::CacheSide::kBoth;
}

void add_errors(const Key& key, Model& m) {
  m.errors.assign(static_cast<std::size_t>(m.actual.layers * m.actual.slots), 0.0);
  for (std::int64_t layer = 0; layer < m.actual.layers; ++layer) {
    for (const char* name : {":k_cache", ":v_cache"}) {
      const bool keys = name[1] == 'k';
      if ((key.side == view::CacheSide::kKeys && !keys) ||
          (key.side == view::CacheSide::kValues && keys))
        continue;
      const std::string point = "model.layers." + std::to_string(layer) + ".self_attn" + name;
      const TensorView* a = m.run->find(key.step, key.rank, point);
      const TensorView* e = m.reference->find(key.step, key.rank, point);
      if (a == nullptr || e == nullptr) continue;
      m.bound =
          std::max(m.bound, 32 * unit_roundoff(is_floating(a->dtype) ? a->dtype : DType::kF32));
      const std::vector<double> errors = view::slot_errors(*a, *e, key.row);
      m.compared = m.compared || !errors.empty();
      for (std::size_t s = 0; s < errors.size() && std::ssize(errors) <= m.actual.slots; ++s) {
        double& cell = m.errors[static_cast<std::size_t>(layer * m.actual.slots) + s];
        if (std::isnan(errors[s]) || errors[s] > cell) cell = errors[s];
      }
    }
  }
  m.differing =
      std::count_if(m.errors.begin(), m.errors.end(), [&](double x) { return !(x <= m.bound); });
}

std::shared_ptr<const Model> made(const Key& key, const RunPtr& run, const RunPtr& reference,
                                  const ModelConfig& config) {
  auto m = std::make_shared<Model>();
  m->run = run != nullptr ? run : reference;
  m->reference = reference;
  m->actual = view::cache_map(m->run->trace, config, key.step, key.rank, key.row, key.side);
  if (reference == nullptr) return m;
  m->expected = view::cache_map(reference->trace, config, key.step, key.rank, key.row, key.side);
  if (run != nullptr) add_errors(key, *m);
  return m;
}

Color color_of(const view::CacheSlot& slot, std::int64_t step, std::int64_t row) {
  switch (slot.state) {
    case SlotState::kAbsent:
      return {28, 30, 34};
    case SlotState::kPrefix:
      return {178, 132, 214};
    case SlotState::kPadding:
      return {84, 84, 88};
    case SlotState::kBefore:
      return {70, 100, 140};
    case SlotState::kWritten: {
      // Older is darker; what this step wrote stands out; what a beam brought here is greener.
      const double age = static_cast<double>(step - slot.written);
      const double fresh = 1 / (1 + age / 3);
      const auto mix = [&](int low, int high) {
        return static_cast<std::uint8_t>(low + (high - low) * fresh);
      };
      if (slot.owner != row) return {mix(50, 120), mix(120, 230), mix(90, 140)};
      return {mix(44, 130), mix(92, 200), mix(150, 250)};
    }
    case SlotState::kOverwritten:
      return {255, 80, 30};
    case SlotState::kStale:
      return {255, 170, 30};
    case SlotState::kForeign:
      return {255, 90, 160};
    case SlotState::kEmpty:
      return {240, 240, 60};
  }
  return {};
}

class KvPanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    if (app.session.runs().empty() && app.session.reference() == nullptr) {
      centred_text(app.session.empty() ? "Nothing is open."
                                       : "Caches are in traces: open the one that this is about.");
      return;
    }
    if (app.session.config() == nullptr) {
      centred_text(
          "The trace does not say what model it is of. Open the model's folder too: Ctrl+P, open "
          "PATH");
      return;
    }
    const view::CacheSide side = side_of(app);
    choice(app,
           side == view::CacheSide::kKeys     ? "keys"
           : side == view::CacheSide::kValues ? "values"
                                              : "both",
           {{"both", "set kv.side both"},
            {"keys", "set kv.side keys"},
            {"values", "set kv.side values"}});
    const RunPtr run = app.session.run(app.state.selection.run),
                 reference = app.session.reference();
    const RowPlace place =
        row_place(app, run != nullptr ? run.get() : reference.get(), app.state.selection.step);
    ImGui::SameLine(0, scaled(16));
    ImGui::TextDisabled("replica %lld  sample %lld", static_cast<long long>(place.replica),
                        static_cast<long long>(place.batch));
    const std::shared_ptr<const Model> model = current(app, run, reference, place);
    if (model == nullptr) {
      centred_text("Following the cache through the steps ...");
      return;
    }
    const bool expected = app.mode() == Mode::kExpected && model->expected.slots > 0;
    const view::CacheMap& map = expected ? model->expected : model->actual;
    if (map.slots == 0) {
      centred_text(
          "No cache was captured up to this step. Record it: parscope trace --points '*_cache'");
      return;
    }
    ImGui::SameLine(0, scaled(16));
    summary(app, *model, map);
    matrix(app, ui, *model, map, place.row());
  }

 private:
  std::shared_ptr<const Model> current(App& app, const RunPtr& run, const RunPtr& reference,
                                       const RowPlace& place) {
    const Selection& s = app.state.selection;
    const Key key{app.session.version(), s.run, s.step, s.rank, place.row(), side_of(app)};
    std::int64_t bytes = 0;
    for (const RunPtr& r : {run, reference}) {
      if (r == nullptr) continue;
      for (const TraceStep& step : r->trace.steps()) {
        if (step.tensors == nullptr) continue;
        for (const auto& entry : step.tensors->entries()) {
          if (entry.name.ends_with("_cache")) bytes += std::ssize(entry.view.bytes);
        }
      }
    }
    const ModelConfig config = *app.session.config();
    return models_.get(app, "kv", key, bytes < (1 << 22),
                       [=](const std::stop_token&) { return made(key, run, reference, config); });
  }

  static void summary(const App& app, const Model& m, const view::CacheMap& map) {
    std::string text;
    if (map.wrong > 0) text = std::to_string(map.wrong) + " slots do not hold what they should";
    if (app.mode() == Mode::kDiff && m.compared && m.differing > 0)
      text +=
          (text.empty() ? "" : ", ") + std::to_string(m.differing) + " differ from the reference";
    if (text.empty()) {
      ImGui::TextDisabled(
          "%s", m.compared ? "all slots are as expected" : "every slot is as it was written");
    } else {
      ImGui::TextColored(ImVec4(1, 0.45f, 0.25f, 1), "%s",
                         fitted(text, ImGui::GetContentRegionAvail().x).c_str());
    }
  }

  void matrix(App& app, Ui& ui, const Model& m, const view::CacheMap& map, std::int64_t row) {
    const ImVec2 room = ImGui::GetContentRegionAvail(), corner = ImGui::GetCursorScreenPos();
    const float left = axis_width(map.layers), top = axis_height(),
                foot = ImGui::GetTextLineHeightWithSpacing() * 6;
    ImGui::SetCursorScreenPos(ImVec2(corner.x + left, corner.y + top));
    const Canvas canvas =
        matrix_canvas(app, "kv", map.layers, map.slots,
                      ImVec2(room.x - left - 8, std::max(room.y - top - foot - 6, room.y * 0.4f)));
    const bool diff = app.mode() == Mode::kDiff && m.compared && &map == &m.actual;
    Picture& picture = ui.picture("kv");
    std::uint32_t* out = picture.resize(canvas.width(), canvas.height());
    for (int y = 0; y < picture.height(); ++y) {
      for (int x = 0; x < picture.width(); ++x)
        out[static_cast<std::ptrdiff_t>(y) * picture.width() + x] =
            u32(pixel(app, m, map, canvas, x, y, row, diff));
    }
    picture.commit();
    ImDrawList& list = *ImGui::GetWindowDrawList();
    picture.draw(list, canvas.min);
    if (canvas.cell_width >= 8 && canvas.cell_height >= 8) {
      for (std::int64_t c = canvas.first_column(); c <= canvas.end_column(); ++c)
        list.AddLine(ImVec2(canvas.x_of(static_cast<double>(c)), canvas.min.y),
                     ImVec2(canvas.x_of(static_cast<double>(c)), canvas.max.y),
                     IM_COL32(16, 19, 22, 255));
      for (std::int64_t r = canvas.first_row(); r <= canvas.end_row(); ++r)
        list.AddLine(ImVec2(canvas.min.x, canvas.y_of(static_cast<double>(r))),
                     ImVec2(canvas.max.x, canvas.y_of(static_cast<double>(r))),
                     IM_COL32(16, 19, 22, 255));
    }
    draw_axes(list, canvas, "layer", "slot");
    list.AddRect(canvas.min, canvas.max, ImGui::GetColorU32(ImGuiCol_Border));
    draw_marker(list, canvas, std::max<std::int64_t>(selected_layer(app.state.selection), 0),
                app.state.selection.at("slot", map.slots), IM_COL32_WHITE);
    if (canvas.row >= 0) {
      ImGui::SetTooltip("%s", words(m, map, canvas.row, canvas.column, row).c_str());
      if (canvas.clicked) {
        const char* point =
            side_of(app) == view::CacheSide::kValues ? ".self_attn:v_cache" : ".self_attn:k_cache";
        (void)app.execute("go model.layers." + std::to_string(canvas.row) + point);
        (void)app.execute_merged("at slot=" + std::to_string(canvas.column));
      }
    }
    ImGui::SetCursorScreenPos(ImVec2(corner.x, canvas.max.y + 6));
    legend(map, app.state.selection.step, row, diff);
    ImGui::Spacing();
    const std::int64_t layer = std::clamp<std::int64_t>(selected_layer(app.state.selection), 0,
                                                        std::max<std::int64_t>(map.layers, 1) - 1);
    if (ImGui::BeginChild("slot")) {
      faint_text(words(m, map, layer, app.state.selection.at("slot", map.slots), row));
    }
    ImGui::EndChild();
  }

  // The worst of the cells under a pixel: a wrong slot is never lost.
  static Color pixel(const App& app, const Model& m, const view::CacheMap& map, const Canvas& c,
                     int x, int y, std::int64_t row, bool diff) {
    const auto range = [](double from, double cell, int at, std::int64_t size) {
      const auto a =
          std::clamp<std::int64_t>(static_cast<std::int64_t>(from + at / cell), 0, size - 1);
      return std::pair(
          a, cell >= 1
                 ? a + 1
                 : std::clamp<std::int64_t>(
                       static_cast<std::int64_t>(std::ceil(from + (at + 1) / cell)), a + 1, size));
    };
    const auto [l0, l1] = range(c.top, c.cell_height, y, map.layers);
    const auto [s0, s1] = range(c.left, c.cell_width, x, map.slots);
    const view::CacheSlot* worst = &map.at(l0, s0);
    double error = 0;
    for (std::int64_t l = l0; l < l1; ++l) {
      for (std::int64_t s = s0; s < s1; ++s) {
        if (map.at(l, s).state > worst->state && view::is_wrong(map.at(l, s).state))
          worst = &map.at(l, s);
        if (!diff) continue;
        const double e = m.errors[static_cast<std::size_t>(l * map.slots + s)];
        if (std::isnan(e) || e > error) error = e;
      }
    }
    if (!diff || view::is_wrong(worst->state) || worst->state == SlotState::kAbsent)
      return color_of(*worst, app.state.selection.step, row);
    return color_of_ratio(
        m.bound > 0 ? error / m.bound / std::max(app.state.display.tolerance, 1e-9) : 0,
        Theme::kDark);
  }

  static std::string words(const Model& m, const view::CacheMap& map, std::int64_t layer,
                           std::int64_t slot, std::int64_t row) {
    const view::CacheSlot& s = map.at(layer, slot);
    std::string text = "layer " + std::to_string(layer) + " slot " + std::to_string(slot) + ": " +
                       std::string(to_string(s.state));
    if (s.written >= 0) text += "\nwritten by step " + std::to_string(s.written);
    if (s.owner >= 0 && s.owner != row)
      text += "\nby row " + std::to_string(s.owner) + ": a beam brought it here";
    if (s.changed >= 0) text += "\nwent wrong in step " + std::to_string(s.changed);
    if (m.compared && &map == &m.actual)
      text += "\nlargest error " +
              number_text(m.errors[static_cast<std::size_t>(layer * map.slots + slot)]) +
              " of the cache's largest value";
    return text;
  }

  static void legend(const view::CacheMap& map, std::int64_t step, std::int64_t row, bool diff) {
    std::vector<SlotState> seen;
    for (const view::CacheSlot& s : map.cells) {
      if (s.state != SlotState::kAbsent &&
          std::find(seen.begin(), seen.end(), s.state) == seen.end())
        seen.push_back(s.state);
    }
    std::sort(seen.begin(), seen.end());
    const float size = ImGui::GetFontSize() * 0.7f;
    for (const SlotState state : seen) {
      if (diff && !view::is_wrong(state)) continue;
      const ImVec2 at = ImGui::GetCursorScreenPos();
      const Color c = color_of({state, step, -1, row}, step, row);
      ImGui::GetWindowDrawList()->AddRectFilled(ImVec2(at.x, at.y + size * 0.35f),
                                                ImVec2(at.x + size, at.y + size * 1.35f), u32(c));
      ImGui::Dummy(ImVec2(size, size));
      ImGui::SameLine(0, scaled(4));
      ImGui::TextDisabled("%s", std::string(to_string(state)).c_str());
      ImGui::SameLine(0, scaled(12));
    }
    ImGui::TextDisabled("%s", diff ? "colours: the error, from blue (rounding) to orange and red"
                                   : "darker: written earlier");
  }

  Computed<Key, Model> models_;
};

}  // namespace

std::unique_ptr<Panel> make_kv_panel() { return std::make_unique<KvPanel>(); }

}  // namespace ps::viewer
