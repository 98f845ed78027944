// All heads of all layers and replicas at once, as thumbnails that lose no NaN and no error, and
// one of them large: scores, probabilities, or how spread out each query's attention is.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "diff/picture/colors.h"
#include "viewer/app/commands.h"
#include "viewer/data/attention_model.h"
#include "viewer/data/computed.h"
#include "viewer/data/places.h"
#include "viewer/panel.h"
#include "viewer/ui/canvas.h"

namespace ps::viewer {

namespace {

using Show = AttentionShow;
using Head = AttentionHead;
using Model = AttentionModel;
using Key = AttentionKey;

Show show_of(const App& app) {
  const std::string word = app.state.display.option("attention.show", "probs");
  return word == "scores" ? Show::kScores : word == "entropy" ? Show::kEntropy : Show::kProbs;
}

Color color_of_value(double x, double largest, Show show) {
  if (largest <= 0) return cividis(0);
  // Small probabilities can be told from none.
  return cividis(show == Show::kScores ? x / largest
                                       : std::sqrt(std::clamp(x / largest, 0.0, 1.0)));
}

class AttentionPanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    if (app.session.runs().empty() && app.session.reference() == nullptr) {
      centred_text(
          app.session.empty()
              ? "Nothing is open."
              : "Scores and probabilities are in traces: open the one that this is about.");
      return;
    }
    const Show show = show_of(app);
    choice(app,
           show == Show::kScores  ? "scores"
           : show == Show::kProbs ? "probs"
                                  : "entropy",
           {{"scores", "set attention.show scores"},
            {"probs", "set attention.show probs"},
            {"entropy", "set attention.show entropy"}});
    const std::shared_ptr<const Model> model = current(app, show);
    if (model == nullptr) {
      centred_text("Reading the heads of this step ...");
      return;
    }
    if (model->all.empty()) {
      centred_text("This step has no " + std::string(show == Show::kScores ? "scores" : "probs") +
                   ". Record them: parscope trace --points '*:scores' --points '*:probs'");
      return;
    }
    ImGui::SameLine(0, scaled(16));
    if (model->wrong > 0) {
      ImGui::TextColored(ImVec4(1, 0.45f, 0.25f, 1), "%lld of %zu heads differ",
                         static_cast<long long>(model->wrong), model->all.size());
    } else {
      ImGui::TextDisabled(
          "%s", model->reference == nullptr ? "nothing to compare with" : "no head differs");
    }
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const bool beside = room.x > room.y * 1.2f;
    const ImVec2 size = beside ? ImVec2(room.x * 0.55f, room.y) : ImVec2(room.x, room.y * 0.5f);
    if (ImGui::BeginChild("heads", size)) grid(app, ui, *model, show);
    ImGui::EndChild();
    if (beside) ImGui::SameLine();
    if (ImGui::BeginChild("one")) one(app, ui, *model, show);
    ImGui::EndChild();
  }

 private:
  std::shared_ptr<const Model> current(App& app, Show show) {
    const Selection& s = app.state.selection;
    const RunPtr run = app.session.run(s.run), reference = app.session.reference();
    const RowPlace place = row_place(app, run != nullptr ? run.get() : reference.get(), s.step);
    const Key key{app.session.version(),
                  s.run,
                  s.step,
                  s.rank,
                  place.batch,
                  show,
                  app.mode() == Mode::kExpected && reference != nullptr,
                  64};
    std::int64_t cells = 0;
    for (const auto& r : {run, reference}) {
      if (r == nullptr) continue;
      if (const TraceStep* step = find_step(*r, s.step, s.rank)) {
        for (const auto& entry : step->tensors->entries()) {
          if (entry.name.ends_with(":probs") || entry.name.ends_with(":scores"))
            cells += entry.view.count();
        }
      }
    }
    return models_.get(app, "attention", key, cells < 200000, [=](const std::stop_token& stop) {
      return made_attention_model(key, run, reference, place.replicas, place.samples, stop);
    });
  }

  // One pixel of a thumbnail, or of the large one.
  static Color shade(const App& app, const Model& m, Show show, float value, const float* error,
                     std::uint8_t broken) {
    const ps::Palette& palette = colors();
    const bool diff = app.mode() == Mode::kDiff && error != nullptr;
    if (broken == 2 || (broken == 1 && !diff)) return palette.broken;
    if (diff)
      return color_of_ratio(
          m.bound > 0 ? *error / m.bound / std::max(app.state.display.tolerance, 1e-9) : 0,
          Theme::kDark);
    return color_of_value(value, m.largest, show);
  }

  void grid(App& app, Ui& ui, const Model& m, Show show) {
    const float label = ImGui::CalcTextSize("layer").x + 8, line = ImGui::GetTextLineHeight();
    const ImVec2 room = ImGui::GetContentRegionAvail();
    constexpr float kGap = 2, kGroup = 12;
    const float above = std::floor(line * 2 + 4);
    const auto heads = static_cast<float>(m.heads),
               layers = static_cast<float>(std::max<std::int64_t>(m.layers, 1));
    // Replicas beside each other, or in as many rows as make the thumbnails largest.
    std::int64_t across = m.replicas;
    float fit = 0;
    for (std::int64_t n = m.replicas; n >= 1; --n) {
      const auto columns = static_cast<float>(n),
                 rows = static_cast<float>((m.replicas + n - 1) / n);
      const float by_width =
          (room.x - label - kGroup * (columns - 1) - 16) / (columns * heads) - kGap;
      const float by_height = (room.y - rows * (above + kGroup)) / (rows * layers) - kGap;
      const float side = std::min(by_width, std::max(by_height, n == m.replicas ? 24.0f : 0.0f));
      if (side <= fit + 0.5f) continue;
      fit = side;
      across = n;
    }
    const int side = static_cast<int>(std::clamp(fit, 10.0f, 96.0f));
    const float pitch = static_cast<float>(side) + kGap;
    const auto down = static_cast<float>((m.replicas + across - 1) / across);
    const int width = static_cast<int>(static_cast<float>(across) * (heads * pitch + kGroup));
    const int height = static_cast<int>(down * (layers * pitch + above + kGroup));
    const ImVec2 corner = ImGui::GetCursorScreenPos();
    const ImVec2 at(std::floor(corner.x + label), std::floor(corner.y));
    Picture& picture = ui.picture("attention.heads");
    std::uint32_t* out = picture.resize(width, height);
    width_ = picture.width();
    std::fill(out, out + static_cast<std::ptrdiff_t>(picture.width()) * picture.height(),
              0xff1d1916u);
    const int limit = picture.height();
    const auto place = [&](const Head& h) {
      const auto column = static_cast<float>(h.replica % across),
                 row = static_cast<float>(h.replica / across);
      return ImVec2(
          column * (heads * pitch + kGroup) + static_cast<float>(h.head) * pitch,
          row * (layers * pitch + above + kGroup) + above + static_cast<float>(h.layer) * pitch);
    };
    for (const Head& h : m.all) {
      const ImVec2 p = place(h);
      if (p.y + static_cast<float>(side) <= static_cast<float>(limit) &&
          p.x + static_cast<float>(side) <= static_cast<float>(width_))
        thumbnail(app, m, show, h, out, static_cast<int>(p.x), static_cast<int>(p.y), side);
    }
    picture.commit();
    ImDrawList& list = *ImGui::GetWindowDrawList();
    picture.draw(list, at);
    ImGui::SetCursorScreenPos(at);
    ImGui::InvisibleButton("attention_heads", ImVec2(static_cast<float>(width),
                                                     static_cast<float>(std::max(height, 1))));
    for (std::int64_t r = 0; r < m.replicas; ++r) {
      const ImVec2 p = place({0, 0, r, {}, {}});
      Canvas published;
      published.min = ImVec2(at.x + p.x, at.y + p.y);
      published.max = ImVec2(published.min.x + heads * pitch, published.min.y + layers * pitch);
      published.rows = m.layers;
      published.columns = m.heads;
      published.cell_width = published.cell_height = static_cast<double>(pitch);
      publish_canvas("attention.heads." + std::to_string(r), published);
    }
    const bool hovered = ImGui::IsItemHovered();
    const ImU32 ink = ImGui::GetColorU32(ImGuiCol_TextDisabled);
    for (std::int64_t r = 0; r < m.replicas; ++r) {
      const ImVec2 p = place({0, 0, r, {}, {}});
      const float top = at.y + p.y - above;
      list.AddText(ImVec2(at.x + p.x, top), ink,
                   m.replicas == 1
                       ? "head"
                       : fitted("replica " + std::to_string(r) + "  head", heads * pitch).c_str());
      for (std::int64_t h = 0; h < m.heads; ++h) {
        if (side < 16 && h % 4 != 0) continue;
        list.AddText(ImVec2(at.x + place({0, h, r, {}, {}}).x, top + line), ink,
                     std::to_string(h).c_str());
      }
      if (r % across != 0) continue;
      list.AddText(ImVec2(corner.x, top), ink, "layer");
      for (std::int64_t l = 0; l < m.layers; ++l) {
        if (pitch < line && l % 2 != 0) continue;
        list.AddText(ImVec2(corner.x, at.y + place({l, 0, r, {}, {}}).y), ink,
                     std::to_string(l).c_str());
      }
    }
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    for (const Head& h : m.all) {
      const ImVec2 p = place(h);
      const ImVec2 low(at.x + p.x, at.y + p.y),
          high(low.x + static_cast<float>(side), low.y + static_cast<float>(side));
      if (is_selected(app, h))
        list.AddRect(ImVec2(low.x - 1, low.y - 1), ImVec2(high.x + 1, high.y + 1), IM_COL32_WHITE);
      if (!hovered || mouse.x < low.x || mouse.x >= high.x || mouse.y < low.y || mouse.y >= high.y)
        continue;
      ImGui::SetTooltip(
          "layer %lld head %lld replica %lld\nlargest %.4g%s%s", static_cast<long long>(h.layer),
          static_cast<long long>(h.head), static_cast<long long>(h.replica), h.thumbnail.largest,
          h.thumbnail.error.empty() ? "" : (", worst error " + text_of(h.thumbnail.worst)).c_str(),
          h.thumbnail.any_broken ? "\nNaN or infinities inside" : "");
      if (ImGui::IsMouseClicked(ImGuiMouseButton_Left)) {
        (void)app.execute("go " + as_word(attention_point(h.layer, show)));
        (void)app.execute_merged("at head=" + std::to_string(h.head) +
                                 " replica=" + std::to_string(h.replica));
      }
    }
  }

  static bool is_selected(const App& app, const Head& h) {
    const Selection& s = app.state.selection;
    return h.layer == std::max<std::int64_t>(selected_layer(s), 0) && h.head == s.at("head") &&
           h.replica == s.at("replica");
  }

  void thumbnail(const App& app, const Model& m, Show show, const Head& h, std::uint32_t* out,
                 int x0, int y0, int side) const {
    const view::Thumbnail& t = h.thumbnail;
    if (t.width == 0) return;
    const auto queries = static_cast<std::int64_t>(h.entropy.size());
    for (int y = 0; y < side; ++y) {
      for (int x = 0; x < side; ++x) {
        Color c;
        if (show == Show::kEntropy && queries > 0) {
          const float e = h.entropy[static_cast<std::size_t>(y * queries / side)];
          c = std::isnan(e) ? colors().broken : cividis(e);
        } else {
          // Every cell of the thumbnail under the pixel: the worst of them.
          float value = 0, error = 0;
          std::uint8_t broken = 0;
          const int r1 = std::max(y * t.height / side + 1, (y + 1) * t.height / side),
                    c1 = std::max(x * t.width / side + 1, (x + 1) * t.width / side);
          for (int r = y * t.height / side; r < r1; ++r) {
            for (int k = x * t.width / side; k < c1; ++k) {
              const auto i = static_cast<std::size_t>(r * t.width + k);
              value = std::max(value, t.value[i]);
              broken = std::max(broken, t.broken[i]);
              if (!t.error.empty()) error = std::max(error, t.error[i]);
            }
          }
          c = shade(app, m, show, value, t.error.empty() ? nullptr : &error, broken);
        }
        out[static_cast<std::ptrdiff_t>(y0 + y) * width_ + x0 + x] = u32(c);
      }
    }
  }

  void one(App& app, Ui& ui, const Model& m, Show show) {
    const auto it = std::find_if(m.all.begin(), m.all.end(),
                                 [&](const Head& h) { return is_selected(app, h); });
    const Head& h = it == m.all.end() ? m.all.front() : *it;
    const Selection& s = app.state.selection;
    const std::string point = attention_point(h.layer, show);
    const TensorView* actual = m.run == nullptr ? nullptr : m.run->find(s.step, s.rank, point);
    const TensorView* expected =
        m.reference == nullptr ? nullptr : m.reference->find(s.step, s.rank, point);
    const TensorView* shown =
        (app.mode() == Mode::kExpected && expected != nullptr) || actual == nullptr ? expected
                                                                                    : actual;
    if (shown == nullptr) return;
    if (expected != nullptr && expected->shape != shown->shape) expected = nullptr;
    ImGui::TextDisabled("%s",
                        ("layer " + std::to_string(h.layer) + "  head " + std::to_string(h.head) +
                         (m.replicas > 1 ? "  replica " + std::to_string(h.replica) : ""))
                            .c_str());
    const ImVec2 room = ImGui::GetContentRegionAvail(), corner = ImGui::GetCursorScreenPos();
    const std::int64_t rows = shown->shape[2], columns = shown->shape[3];
    const float left = axis_width(rows), top = axis_height();
    ImGui::SetCursorScreenPos(ImVec2(corner.x + left, corner.y + top));
    const Canvas canvas = matrix_canvas(
        app, "attention", rows, columns,
        ImVec2(room.x - left - 8, room.y - top - ImGui::GetTextLineHeightWithSpacing() - 6));
    const std::int64_t batch =
        row_place(app, m.run != nullptr ? m.run.get() : m.reference.get(), s.step).batch;
    const std::int64_t samples =
        row_place(app, m.run != nullptr ? m.run.get() : m.reference.get(), s.step).samples;
    const std::int64_t first =
        ((h.replica * samples + batch) * shown->shape[1] + h.head) * rows * columns;
    cells(app, ui, m, show, h, *shown,
          app.mode() == Mode::kDiff && shown == actual ? expected : nullptr, first, canvas);
    ImDrawList& list = *ImGui::GetWindowDrawList();
    ui.picture("attention.one").draw(list, canvas.min);
    draw_axes(list, canvas, "query", "key");
    list.AddRect(canvas.min, canvas.max, ImGui::GetColorU32(ImGuiCol_Border));
    draw_marker(list, canvas, s.at("query", rows), s.at("key", columns), IM_COL32_WHITE);
    if (canvas.row < 0) return;
    const std::int64_t at = first + canvas.row * columns + canvas.column;
    std::string text = "query " + std::to_string(canvas.row) + " key " +
                       std::to_string(canvas.column) + "\n" +
                       (shown == actual ? "actual " : "expected ") + text_of(value_at(*shown, at));
    if (expected != nullptr && shown == actual)
      text += "\nexpected " + text_of(value_at(*expected, at)) + "\ndifference " +
              text_of(value_at(*shown, at) - value_at(*expected, at));
    if (!h.entropy.empty())
      text += "\nentropy " +
              text_of(static_cast<double>(h.entropy[static_cast<std::size_t>(canvas.row)]));
    ImGui::SetTooltip("%s", text.c_str());
    if (canvas.clicked) {
      (void)app.execute("go " + as_word(point));
      (void)app.execute_merged(
          "at head=" + std::to_string(h.head) + " replica=" + std::to_string(h.replica) +
          " query=" + std::to_string(canvas.row) + " key=" + std::to_string(canvas.column));
    }
  }

  // The large head: every pixel the worst of its cells.
  void cells(const App& app, Ui& ui, const Model& m, Show show, const Head& h,
             const TensorView& shown, const TensorView* expected, std::int64_t first,
             const Canvas& canvas) {
    Picture& picture = ui.picture("attention.one");
    std::uint32_t* out = picture.resize(canvas.width(), canvas.height());
    const std::int64_t columns = canvas.columns;
    const auto range = [](double from, double cell, std::int64_t pixel, std::int64_t size) {
      const auto a = std::clamp<std::int64_t>(
          static_cast<std::int64_t>(from + static_cast<double>(pixel) / cell), 0, size - 1);
      const auto b =
          static_cast<std::int64_t>(std::ceil(from + static_cast<double>(pixel + 1) / cell));
      return std::pair(a, cell >= 1 ? a + 1 : std::clamp<std::int64_t>(b, a + 1, size));
    };
    for (int y = 0; y < picture.height(); ++y) {
      const auto [r0, r1] = range(canvas.top, canvas.cell_height, y, canvas.rows);
      for (int x = 0; x < picture.width(); ++x) {
        const auto [k0, k1] = range(canvas.left, canvas.cell_width, x, columns);
        float value = 0, error = 0;
        std::uint8_t broken = 0;
        for (std::int64_t r = r0; r < r1; ++r) {
          for (std::int64_t k = k0; k < k1; ++k) {
            const double a = value_at(shown, first + r * columns + k);
            if (std::isfinite(a)) {
              value = std::max(value, static_cast<float>(std::fabs(a)));
            } else {
              broken = std::max(broken, std::uint8_t{1});
            }
            if (expected == nullptr) continue;
            const double e = value_at(*expected, first + r * columns + k);
            if (view::classes_differ(a, e)) broken = 2;
            if (std::isfinite(a) && std::isfinite(e))
              error = std::max(error, static_cast<float>(std::fabs(a - e)));
          }
        }
        Color c = shade(app, m, show, value, expected == nullptr ? nullptr : &error, broken);
        if (show == Show::kEntropy && app.mode() != Mode::kDiff && x < 6 &&
            r0 < std::ssize(h.entropy))
          c = cividis(h.entropy[static_cast<std::size_t>(r0)]);
        out[static_cast<std::ptrdiff_t>(y) * picture.width() + x] = u32(c);
      }
    }
    picture.commit();
  }

  Computed<Key, Model> models_;
  int width_ = 0;
};

}  // namespace

std::unique_ptr<Panel> make_attention_panel() { return std::make_unique<AttentionPanel>(); }

}  // namespace ps::viewer
