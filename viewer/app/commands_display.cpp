// Commands that say how to show it.
#include <cmath>

#include "viewer/app/app.h"
#include "viewer/app/command_words.h"
#include "viewer/app/commands.h"
#include "viewer/app/panels.h"

namespace ps::viewer {

namespace {

constexpr double kMost = 1e300;

Result<void> known_panel(const std::string& name) {
  if (find_panel(name) != nullptr) return {};
  std::string all;
  for (const PanelInfo& panel : panel_table()) {
    all += (all.empty() ? "" : ", ") + std::string(panel.name);
  }
  return bad_input(name, "is no panel", all);
}

}  // namespace

Result<void> command_mode(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "mode"));
  PS_TRY(app.state.display.mode, mode_of(words[0]));
  return {};
}

Result<void> command_metric(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "metric"));
  Metric& metric = app.state.display.metric;
  if (words[0] == "next") {
    metric =
        metric == Metric::kUlp ? Metric::kRatio : static_cast<Metric>(static_cast<int>(metric) + 1);
    return {};
  }
  PS_TRY(metric, metric_of(words[0]));
  return {};
}

Result<void> command_tolerance(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "tolerance"));
  double& tolerance = app.state.display.tolerance;
  const std::string& word = words[0];
  constexpr double kLow = 1e-9, kHigh = 1e12;
  if (word.starts_with("*") || word.starts_with("/")) {
    PS_TRY(const double by, number_of(word.substr(1), "tolerance", 1e-6, 1e6));
    tolerance = std::clamp(word[0] == '*' ? tolerance * by : tolerance / by, kLow, kHigh);
    return {};
  }
  PS_TRY(tolerance, number_of(word, "tolerance", kLow, kHigh));
  return {};
}

Result<void> command_map(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "map"));
  ColorMap& map = app.state.display.map;
  if (words[0] == "next") {
    map = map == ColorMap::kGray ? ColorMap::kCividis
                                 : static_cast<ColorMap>(static_cast<int>(map) + 1);
    return {};
  }
  PS_TRY(map, map_of(words[0]));
  return {};
}

Result<void> command_range(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 2, "range"));
  Display& d = app.state.display;
  if (words.size() == 1) {
    if (words[0] != "fit")
      return bad_input("range", "wants two values", "fit, or LOW HIGH", words[0]);
    d.low = d.high = 0;
    return {};
  }
  PS_TRY(const double low, number_of(words[0], "range", -kMost, kMost));
  PS_TRY(const double high, number_of(words[1], "range", -kMost, kMost));
  if (low >= high)
    return bad_input("range", "must rise", "LOW below HIGH", words[0] + " " + words[1]);
  d.low = low;
  d.high = high;
  return {};
}

Result<void> command_log_range(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "log"));
  bool& on = app.state.display.log_range;
  if (words[0] == "toggle") {
    on = !on;
  } else if (words[0] == "on" || words[0] == "off") {
    on = words[0] == "on";
  } else {
    return bad_input("log", "unknown word", "on, off, toggle", words[0]);
  }
  return {};
}

Result<void> command_view(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 4, 4, "view"));
  PS_TRY_VOID(known_panel(words[0]));
  PlaneView view;
  PS_TRY(view.x, number_of(words[1], "x", -1e12, 1e12));
  PS_TRY(view.y, number_of(words[2], "y", -1e12, 1e12));
  PS_TRY(view.zoom, number_of(words[3], "zoom", 0, 1e6));
  app.state.display.views[words[0]] = view;
  return {};
}

Result<void> command_fit(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 1, "fit"));
  const std::string panel = words.empty() ? app.state.panel : words[0];
  PS_TRY_VOID(known_panel(panel));
  app.state.display.views.erase(panel);
  return {};
}

Result<void> command_set(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 2, "set"));
  const std::size_t dot = words[0].find('.');
  if (dot == std::string::npos) return bad_input("set", "wants a name", "PANEL.NAME", words[0]);
  PS_TRY_VOID(known_panel(words[0].substr(0, dot)));
  auto& options = app.state.display.options;
  if (words.size() == 1) {
    options.erase(words[0]);
  } else {
    options[words[0]] = words[1];
  }
  return {};
}

Result<void> command_scale(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "scale"));
  double& scale = app.state.display.scale;
  const std::string& word = words[0];
  if (word.starts_with("+") || word.starts_with("-")) {
    PS_TRY(const double by, number_of(word.substr(1), "scale", 0, 2.5));
    const double to = scale + (word[0] == '+' ? by : -by);
    scale = std::round(std::clamp(to, 1.0, 2.5) * 100) / 100;
    return {};
  }
  PS_TRY(scale, number_of(word, "scale", 1, 2.5));
  return {};
}

}  // namespace ps::viewer
