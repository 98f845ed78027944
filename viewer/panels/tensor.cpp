// The values of one point, the reference's, and how they differ: a matrix of any two axes at any
// distance, one cell in every detail, and what the whole tensor is like.
#include <algorithm>
#include <span>

#include "viewer/app/commands.h"
#include "viewer/data/tensor_model.h"
#include "viewer/panel.h"
#include "viewer/ui/canvas.h"
#include "viewer/ui/tensor_facts.h"

namespace ps::viewer {

namespace {

class TensorPanel final : public Panel {
 public:
  void draw(App& app, Ui& ui) override {
    const std::shared_ptr<const TensorModel> model = models_.current(app);
    if (model == nullptr) {
      nothing(app);
      return;
    }
    head(app, ui, *model);
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const float side = ImGui::GetFontSize() * 19;
    const bool beside = room.x > side * 2.2f;
    const ImVec2 size =
        beside ? ImVec2(room.x - side - 12, room.y)
               : ImVec2(room.x, std::max(room.y - ImGui::GetFontSize() * 11,
                                         std::min(room.y * 0.8f, ImGui::GetFontSize() * 14)));
    if (ImGui::BeginChild("matrix", size, 0,
                          ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse))
      matrix(app, ui, *model);
    ImGui::EndChild();
    if (beside) ImGui::SameLine(0, scaled(12));
    if (ImGui::BeginChild("facts")) tensor_facts(app, ui, *model);
    ImGui::EndChild();
  }

 private:
  void nothing(const App& app) const {
    const Selection& s = app.state.selection;
    if (models_.computing()) {
      centred_text("Reading " + s.point + " ...");
    } else if (s.point.empty()) {
      centred_text("No point is selected. Click into the Divergence panel, or press N.");
    } else if (app.session.runs().empty() && app.session.reference() == nullptr) {
      centred_text(
          "A report has no tensors. Open the trace that it is about, and the reference's:\nCtrl+P, "
          "then  open PATH  and  reference PATH");
    } else {
      centred_text("Neither the run nor the reference has " + s.point + " in step " +
                   std::to_string(s.step) + ".");
    }
  }

  // The point, its axes: which lie down and across, and where the others stand.
  static void head(App& app, Ui& ui, const TensorModel& model) {
    const Selection& s = app.state.selection;
    const TensorView& tensor = *(model.actual != nullptr ? model.actual : model.expected);
    ImGui::PushFont(ui.mono, 0.0f);
    ImGui::TextUnformatted(s.point.c_str());
    ImGui::PopFont();
    ImGui::SameLine();
    std::string words = ps::to_string(tensor.shape) + " " + std::string(short_name(tensor.dtype));
    if (model.expected != nullptr && model.actual != nullptr &&
        model.expected->dtype != model.actual->dtype) {
      words += ", expected " + std::string(short_name(model.expected->dtype));
    }
    if (model.actual == nullptr) words += "   only the reference has it";
    if (model.expected == nullptr)
      words += app.session.reference() == nullptr ? "   nothing to compare with"
                                                  : "   the reference lacks it";
    if (model.actual != nullptr && model.expected != nullptr && !model.both())
      words += "   the reference's shape is " + ps::to_string(model.expected->shape);
    ImGui::TextDisabled("%s", fitted(words, ImGui::GetContentRegionAvail().x).c_str());
    bool first = true;
    const auto next = [&](float width) {
      if (!first) {
        ImGui::SameLine(0, ImGui::GetFontSize() * 0.8f);
        if (ImGui::GetContentRegionAvail().x < width) ImGui::NewLine();
      }
      first = false;
    };
    for (const bool rows : {true, false}) {
      const std::ptrdiff_t now = rows ? model.cut.row_axis : model.cut.column_axis;
      if (now < 0) continue;
      next(ImGui::GetFontSize() * 9);
      ImGui::AlignTextToFramePadding();
      ImGui::TextDisabled(rows ? "rows" : "columns");
      ImGui::SameLine();
      ImGui::SetNextItemWidth(ImGui::GetFontSize() * 6);
      if (ImGui::BeginCombo(rows ? "##rows" : "##columns",
                            model.cut.axes[static_cast<std::size_t>(now)].name.c_str())) {
        for (std::ptrdiff_t i = 0; i < std::ssize(model.cut.axes); ++i) {
          const std::string& name = model.cut.axes[static_cast<std::size_t>(i)].name;
          if (ImGui::Selectable(name.c_str(), i == now)) {
            // The axis that it takes the place of goes to the other side.
            const std::string other = model.cut.axes[static_cast<std::size_t>(now)].name;
            const std::ptrdiff_t opposite = rows ? model.cut.column_axis : model.cut.row_axis;
            if (i == opposite)
              (void)app.execute(std::string("set tensor.") + (rows ? "columns " : "rows ") + other);
            (void)app.execute(std::string("set tensor.") + (rows ? "rows " : "columns ") + name);
          }
        }
        ImGui::EndCombo();
      }
    }
    for (std::ptrdiff_t i = 0; i < std::ssize(model.cut.axes); ++i) {
      const NamedAxis& axis = model.cut.axes[static_cast<std::size_t>(i)];
      if (i == model.cut.row_axis || i == model.cut.column_axis || axis.size <= 1) continue;
      next(ImGui::GetFontSize() * 9);
      ImGui::AlignTextToFramePadding();
      ImGui::TextDisabled("%s", axis.name.c_str());
      ImGui::SameLine();
      ImGui::SetNextItemWidth(ImGui::GetFontSize() * 5.5f);
      int at = static_cast<int>(app.state.selection.at(axis.name, axis.size));
      const std::string id = "##axis_" + axis.name;
      const std::string format = "%d of 0-" + std::to_string(axis.size - 1);
      if (ImGui::SliderInt(id.c_str(), &at, 0,
                           static_cast<int>(std::min<std::int64_t>(axis.size - 1, 1 << 30)),
                           format.c_str())) {
        (void)app.execute_merged("cell " + axis.name + " " + std::to_string(at));
      }
    }
  }

  void matrix(App& app, Ui& ui, const TensorModel& model) {
    const Cut& cut = model.cut;
    const ImVec2 room = ImGui::GetContentRegionAvail();
    const ImVec2 corner = ImGui::GetCursorScreenPos();
    const float left = axis_width(cut.rows), top = axis_height();
    ImGui::SetCursorScreenPos(ImVec2(corner.x + left, corner.y + top));
    const Canvas canvas = matrix_canvas(app, "tensor", cut.rows, cut.columns,
                                        ImVec2(room.x - left - 6, room.y - top - 6));
    ImDrawList& list = *ImGui::GetWindowDrawList();
    paint(app, ui, model, canvas);
    ui.picture("tensor").draw(list, canvas.min);
    draw_axes(list, canvas, cut.row_name(), cut.column_name());
    list.PushClipRect(canvas.min, canvas.max, true);
    numbers(app, ui, model, canvas, list);
    list.PopClipRect();
    list.AddRect(canvas.min, canvas.max, ImGui::GetColorU32(ImGuiCol_Border));
    draw_marker(list, canvas, selected(app, cut, cut.row_axis), selected(app, cut, cut.column_axis),
                IM_COL32_WHITE);
    if (canvas.row < 0) return;
    tooltip(model, canvas.row, canvas.column);
    if (canvas.clicked) {
      std::string line = "go " + as_word(app.state.selection.point);
      if (cut.row_axis >= 0) line += " " + cut.row_name() + "=" + std::to_string(canvas.row);
      if (cut.column_axis >= 0)
        line += " " + cut.column_name() + "=" + std::to_string(canvas.column);
      (void)app.execute(line);
    }
  }

  void paint(App& app, Ui& ui, const TensorModel& model, const Canvas& canvas) {
    Picture& picture = ui.picture("tensor");
    const Display& d = app.state.display;
    const Painted now{&model,         app.mode(),        d.metric,
                      d.map,          d.tolerance,       d.low,
                      d.high,         d.log_range,       canvas.left,
                      canvas.top,     canvas.cell_width, canvas.cell_height,
                      canvas.width(), canvas.height()};
    if (now == painted_) return;
    painted_ = now;
    std::uint32_t* first = picture.resize(canvas.width(), canvas.height());
    const std::span<std::uint32_t> pixels(first, static_cast<std::size_t>(picture.width()) *
                                                     static_cast<std::size_t>(picture.height()));
    std::fill(pixels.begin(), pixels.end(), 0xff161310u);
    const Window window{picture.width(), picture.height(),  canvas.left,
                        canvas.top,      canvas.cell_width, canvas.cell_height};
    if (shows_errors(app, model)) {
      draw_errors(model.errors, window, error_scale_of(model, d), pixels);
    } else {
      draw_values(values_of(app, model), window, value_scale_of(model, d), pixels);
    }
    picture.commit();
  }

  // Numbers in the cells where they fit.
  static void numbers(const App& app, Ui& ui, const TensorModel& model, const Canvas& canvas,
                      ImDrawList& list) {
    ImGui::PushFont(ui.mono, ImGui::GetStyle().FontSizeBase * 0.8f);
    const float need = ImGui::CalcTextSize("-0.000e+00").x;
    const float line = ImGui::GetTextLineHeight();
    if (canvas.cell_width >= need && canvas.cell_height >= line) {
      const bool errors = shows_errors(app, model);
      const ErrorScale error_scale = error_scale_of(model, app.state.display);
      const ValueScale value_scale = value_scale_of(model, app.state.display);
      for (std::int64_t r = canvas.first_row(); r < canvas.end_row(); ++r) {
        for (std::int64_t c = canvas.first_column(); c < canvas.end_column(); ++c) {
          const double x =
              errors
                  ? model.pair->measure(model.metric, model.cut.flat(r, c))
                  : value_at(*model.shown(app.mode() == Mode::kDiff ? Mode::kActual : app.mode()),
                             model.cut.flat(r, c));
          const Color under = errors ? color_of_error(static_cast<float>(x), error_scale)
                                     : color_of_value(static_cast<float>(x), value_scale);
          const std::string text = value_text(x, 3);
          const ImVec2 size = ImGui::CalcTextSize(text.c_str());
          list.AddText(ImVec2((canvas.x_of(static_cast<double>(c)) +
                               canvas.x_of(static_cast<double>(c) + 1) - size.x) /
                                  2,
                              (canvas.y_of(static_cast<double>(r)) +
                               canvas.y_of(static_cast<double>(r) + 1) - size.y) /
                                  2),
                       u32(ink_on(under)), text.c_str());
        }
      }
    }
    ImGui::PopFont();
  }

  static void tooltip(const TensorModel& model, std::int64_t row, std::int64_t column) {
    const std::int64_t flat = model.cut.flat(row, column);
    std::string text = place_of(model.cut.axes, flat);
    if (model.both()) {
      const CellValues v = model.pair->at(flat);
      text += "\nactual    " + value_text(v.actual, 9) + "\nexpected  " +
              value_text(v.expected, 9) + "\ndifference " + value_text(v.abs) + ", " +
              value_text(v.ratio) + " of the bound";
    } else {
      text += "\n" + value_text(value_at(*model.shown(Mode::kActual), flat), 9);
    }
    ImGui::SetTooltip("%s", text.c_str());
  }

  struct Painted {
    const TensorModel* model = nullptr;
    Mode mode = Mode::kDiff;
    Metric metric = Metric::kRatio;
    ColorMap map = ColorMap::kCividis;
    double tolerance = 0, low = 0, high = 0;
    bool log = false;
    double left = 0, top = 0, cell_width = 0, cell_height = 0;
    int width = 0, height = 0;
    bool operator==(const Painted&) const = default;
  };
  Painted painted_;
  TensorModels models_;
};

}  // namespace

std::unique_ptr<Panel> make_tensor_panel() { return std::make_unique<TensorPanel>(); }

}  // namespace ps::viewer
