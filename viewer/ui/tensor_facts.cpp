#include "viewer/ui/tensor_facts.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "diff/report/strip.h"

namespace ps::viewer {

namespace {

void fact(Ui& ui, const char* name, const std::string& value) {
  ImGui::TableNextRow();
  ImGui::TableNextColumn();
  ImGui::TextDisabled("%s", name);
  ImGui::TableNextColumn();
  mono_text(ui, value);
}

// What the colours mean.
void scale_bar(const App& app, const TensorModel& model) {
  const bool errors = shows_errors(app, model);
  const float width = std::min(ImGui::GetContentRegionAvail().x, ImGui::GetFontSize() * 17);
  const float height = ImGui::GetFontSize() * 0.7f;
  const ImVec2 at = ImGui::GetCursorScreenPos();
  ImDrawList& list = *ImGui::GetWindowDrawList();
  const ErrorScale es = error_scale_of(model, app.state.display);
  const ValueScale vs = value_scale_of(model, app.state.display);
  constexpr int kSteps = 64;
  for (int i = 0; i < kSteps; ++i) {
    const double share = i / (kSteps - 1.0);
    Color color = color_in(vs.map, share);
    if (errors && es.metric == Metric::kRatio) {
      color = color_of_ratio(std::pow(10.0, -3 + 9 * share), Theme::kDark);
    } else if (errors) {
      color = color_in(es.map, 0.12 + 0.88 * share);
    }
    const float x0 = at.x + width * static_cast<float>(i) / kSteps,
                x1 = at.x + width * static_cast<float>(i + 1) / kSteps;
    list.AddRectFilled(ImVec2(std::floor(x0), at.y), ImVec2(std::floor(x1), at.y + height),
                       u32(color));
  }
  ImGui::Dummy(ImVec2(width, height));
  std::string low = value_text(vs.low, 3), high = value_text(vs.high, 3), middle;
  if (errors && es.metric == Metric::kRatio) {
    low = value_text(0.001 * es.tolerance, 3);
    high = value_text(1e6 * es.tolerance, 3);
    middle = "error / bound";
  } else if (errors) {
    low = value_text(es.low, 3);
    high = value_text(es.high, 3);
    middle = std::string(to_string(es.metric)) + " error";
  } else {
    middle = app.mode() == Mode::kExpected ? "expected" : "actual";
  }
  ImGui::TextDisabled("%s", low.c_str());
  const float start = ImGui::GetCursorPosX();
  ImGui::SameLine(start + (width - ImGui::CalcTextSize(middle.c_str()).x) / 2);
  ImGui::TextDisabled("%s", middle.c_str());
  ImGui::SameLine(start + width - ImGui::CalcTextSize(high.c_str()).x);
  ImGui::TextDisabled("%s", high.c_str());
  ImGui::Spacing();
}

// Errors by size, in powers of 4; the bars' heights are logarithmic, so that one cell is seen.
void histogram(const Comparison& c) {
  ImGui::Spacing();
  ImGui::TextUnformatted("Errors by size");
  const float width = std::min(ImGui::GetContentRegionAvail().x, ImGui::GetFontSize() * 17);
  const float height = ImGui::GetFontSize() * 4;
  const ImVec2 at = ImGui::GetCursorScreenPos();
  ImDrawList& list = *ImGui::GetWindowDrawList();
  const std::int64_t most = *std::max_element(c.histogram.begin(), c.histogram.end());
  const float bar = std::floor(width / kHistogramBuckets);
  for (int i = 0; i < kHistogramBuckets; ++i) {
    const std::int64_t n = c.histogram[static_cast<std::size_t>(i)];
    const float x = at.x + bar * static_cast<float>(i);
    list.AddRectFilled(ImVec2(x, at.y + height - 1), ImVec2(x + bar - 1, at.y + height),
                       ImGui::GetColorU32(ImGuiCol_Border));
    if (n == 0) continue;
    const double share =
        (1 + std::log(static_cast<double>(n))) / (1 + std::log(static_cast<double>(most)));
    list.AddRectFilled(ImVec2(x, at.y + height * static_cast<float>(1 - share)),
                       ImVec2(x + bar - 1, at.y + height),
                       i == 0 ? IM_COL32(90, 140, 190, 255) : IM_COL32(232, 160, 80, 255));
  }
  ImGui::Dummy(ImVec2(width, height));
  if (ImGui::IsItemHovered()) {
    const int i = std::clamp(static_cast<int>((ImGui::GetIO().MousePos.x - at.x) / bar), 0,
                             kHistogramBuckets - 1);
    const auto n = static_cast<long long>(c.histogram[static_cast<std::size_t>(i)]);
    if (i == 0) {
      ImGui::SetTooltip("%lld cells are equal", n);
    } else {
      ImGui::SetTooltip("%lld cells with an error of %s to %s", n,
                        value_text(std::pow(4.0, i) * std::pow(2.0, -55), 2).c_str(),
                        value_text(std::pow(4.0, i) * std::pow(2.0, -53), 2).c_str());
    }
  }
  ImGui::TextDisabled("equal");
  const std::string end = "large";
  ImGui::SameLine(ImGui::GetCursorPosX() + width - ImGui::CalcTextSize(end.c_str()).x);
  ImGui::TextDisabled("%s", end.c_str());
}

}  // namespace

std::string value_text(double x, int digits) {
  if (std::isnan(x)) return "NaN";
  if (std::isinf(x)) return x > 0 ? "+inf" : "-inf";
  char text[40];
  std::snprintf(text, sizeof text, "%.*g", digits, x);
  return text;
}

std::int64_t selected(const App& app, const Cut& cut, std::ptrdiff_t axis) {
  if (axis < 0) return 0;
  const NamedAxis& a = cut.axes[static_cast<std::size_t>(axis)];
  return app.state.selection.at(a.name, a.size);
}

bool shows_errors(const App& app, const TensorModel& model) {
  return app.mode() == Mode::kDiff && model.both();
}
const Pyramid& values_of(const App& app, const TensorModel& model) {
  const bool expected = (app.mode() == Mode::kExpected && !model.expected_values.empty()) ||
                        model.actual_values.empty();
  return expected ? model.expected_values : model.actual_values;
}

void tensor_facts(App& app, Ui& ui, const TensorModel& model) {
  const Cut& cut = model.cut;
  const std::int64_t flat =
      cut.flat(selected(app, cut, cut.row_axis), selected(app, cut, cut.column_axis));
  scale_bar(app, model);
  ImGui::TextUnformatted("This cell");
  if (ImGui::BeginTable("cell", 2, ImGuiTableFlags_SizingFixedFit)) {
    if (model.both()) {
      const CellValues v = model.pair->at(flat);
      fact(ui, "actual", value_text(v.actual, 9));
      fact(ui, "expected", value_text(v.expected, 9));
      fact(ui, "difference", value_text(v.abs));
      fact(ui, "relative", value_text(v.rel));
      fact(ui, "ulp", std::isnan(v.abs) ? "class differs" : std::to_string(v.ulp));
      fact(ui, "of the bound", value_text(v.ratio));
    } else {
      fact(ui, "value", value_text(value_at(*model.shown(Mode::kActual), flat), 9));
    }
    ImGui::EndTable();
  }
  if (!model.both()) {
    const Pyramid& p = values_of(app, model);
    if (ImGui::BeginTable("matrix_facts", 2, ImGuiTableFlags_SizingFixedFit)) {
      fact(ui, "least", value_text(p.low()));
      fact(ui, "most", value_text(p.high()));
      fact(ui, "NaN, inf", std::to_string(p.nonfinite()));
      ImGui::EndTable();
    }
    return;
  }
  const Comparison& c = model.pair->comparison();
  ImGui::Spacing();
  ImGui::TextUnformatted("The whole tensor");
  if (ImGui::BeginTable("tensor_facts", 2, ImGuiTableFlags_SizingFixedFit)) {
    fact(ui, "over the bound", std::to_string(c.over) + " of " + std::to_string(c.compared));
    fact(ui, "worst", ratio_text(c.ratio));
    fact(ui, "max abs", value_text(c.max_abs));
    fact(ui, "rel L2", value_text(c.rel_l2));
    fact(ui, "max ulp", std::to_string(c.max_ulp));
    fact(ui, "cosine", value_text(c.cosine, 9));
    if (c.class_mismatches > 0) fact(ui, "classes differ", std::to_string(c.class_mismatches));
    const std::int64_t nonfinite = c.candidate.nonfinite(), right = c.expected.nonfinite();
    if (nonfinite + right > 0)
      fact(ui, "NaN, inf", std::to_string(nonfinite) + ", expected " + std::to_string(right));
    if (c.regression.defined)
      fact(ui, "fit",
           value_text(c.regression.slope, 4) + " x + " + value_text(c.regression.intercept, 3));
    ImGui::EndTable();
  }
  if (app.session.report_was_opened() && app.state.selection.run == 0)
    faint_text("Held to the bound for two runs; the report's is that of the op alone.");
  command_button(app, "Worst cell", "worst");
  histogram(c);
}

}  // namespace ps::viewer
