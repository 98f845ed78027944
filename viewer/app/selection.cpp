#include "viewer/app/selection.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace ps::viewer {

namespace {

constexpr std::array<std::string_view, 3> kModes = {"expected", "actual", "diff"};
constexpr std::array<std::string_view, 4> kMetrics = {"ratio", "abs", "rel", "ulp"};
constexpr std::array<std::string_view, 3> kMaps = {"cividis", "viridis", "gray"};
constexpr std::int64_t kMost = std::int64_t{1} << 40;  // of coordinates
constexpr double kMostReal = 1e300;

template <class E, std::size_t N>
Result<E> by_word(std::string_view word, const std::array<std::string_view, N>& words,
                  const std::string& what) {
  std::string known;
  for (std::size_t i = 0; i < N; ++i) {
    if (words[i] == word) return static_cast<E>(i);
    known += (known.empty() ? "" : ", ") + std::string(words[i]);
  }
  return bad_input(what, "unknown word", known, std::string(word.substr(0, 40)));
}

Result<PlaneView> view_of(std::string_view text) {
  std::array<double, 3> numbers{};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string_view part = text.substr(0, text.find(','));
    const double low = i == 2 ? 0 : -1e12;
    PS_TRY(numbers[i], number_of(part, "view", low, 1e12));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
  }
  return PlaneView{numbers[0], numbers[1], numbers[2]};
}

bool is_axis(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

Result<void> apply(State& state, const std::string& name, const std::string& value) {
  Selection& s = state.selection;
  Display& d = state.display;
  if (name == "run") {
    PS_TRY(s.run, integer_of(value, name, 0, kMost));
  } else if (name == "step") {
    PS_TRY(s.step, integer_of(value, name, 0, kMost));
  } else if (name == "rank") {
    PS_TRY(s.rank, integer_of(value, name, 0, kMost));
  } else if (name == "finding") {
    PS_TRY(s.finding, integer_of(value, name, -1, kMost));
  } else if (name == "point") {
    s.point = value;
  } else if (name == "mode") {
    PS_TRY(d.mode, mode_of(value));
  } else if (name == "metric") {
    PS_TRY(d.metric, metric_of(value));
  } else if (name == "map") {
    PS_TRY(d.map, map_of(value));
  } else if (name == "tolerance") {
    PS_TRY(d.tolerance, number_of(value, name, 0, kMostReal));
  } else if (name == "low") {
    PS_TRY(d.low, number_of(value, name, -kMostReal, kMostReal));
  } else if (name == "high") {
    PS_TRY(d.high, number_of(value, name, -kMostReal, kMostReal));
  } else if (name == "log") {
    PS_TRY(const std::int64_t on, integer_of(value, name, 0, 1));
    d.log_range = on == 1;
  } else if (name == "scale") {
    PS_TRY(d.scale, number_of(value, name, 1, 2.5));
  } else if (name == "panel") {
    state.panel = value;
  } else if (name == "layout") {
    state.layout = value;
  } else if (name.starts_with("view.")) {
    PS_TRY(d.views[name.substr(5)], view_of(value));
  } else if (name.starts_with("opt.")) {
    d.options[name.substr(4)] = value;
  } else if (is_axis(name)) {
    PS_TRY(s.cell[name], integer_of(value, name, 0, kMost));
  } else {
    return bad_input("link", "has a field that nothing is known of", "", name.substr(0, 40));
  }
  return {};
}

}  // namespace

std::int64_t Selection::at(std::string_view axis) const {
  const auto found = cell.find(axis);
  return found == cell.end() ? 0 : found->second;
}
std::int64_t Selection::at(std::string_view axis, std::int64_t size) const {
  return std::clamp<std::int64_t>(at(axis), 0, std::max<std::int64_t>(size, 1) - 1);
}

PlaneView Display::view(std::string_view panel) const {
  const auto found = views.find(panel);
  return found == views.end() ? PlaneView{} : found->second;
}
std::string Display::option(std::string_view name, std::string_view otherwise) const {
  const auto found = options.find(name);
  return found == options.end() ? std::string(otherwise) : found->second;
}

std::string_view to_string(Mode mode) { return kModes[static_cast<std::size_t>(mode)]; }
std::string_view to_string(Metric metric) { return kMetrics[static_cast<std::size_t>(metric)]; }
std::string_view to_string(ColorMap map) { return kMaps[static_cast<std::size_t>(map)]; }
Result<Mode> mode_of(std::string_view word) { return by_word<Mode>(word, kModes, "mode"); }
Result<Metric> metric_of(std::string_view word) {
  return by_word<Metric>(word, kMetrics, "metric");
}
Result<ColorMap> map_of(std::string_view word) { return by_word<ColorMap>(word, kMaps, "map"); }

Result<std::int64_t> integer_of(std::string_view text, std::string_view name, std::int64_t low,
                                std::int64_t high) {
  std::int64_t n = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error == std::errc{} && stop == text.data() + text.size() && n >= low && n <= high) return n;
  return bad_input(std::string(name), "must be an integer",
                   std::to_string(low) + " to " + std::to_string(high),
                   std::string(text.substr(0, 40)));
}

Result<double> number_of(std::string_view text, std::string_view name, double low, double high) {
  double x = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), x);
  const bool whole = error == std::errc{} && stop == text.data() + text.size();
  if (whole && std::isfinite(x) && x >= low && x <= high) return x;
  return bad_input(std::string(name), "must be a number", text_of(low) + " to " + text_of(high),
                   std::string(text.substr(0, 40)));
}

std::string text_of(double number) {
  std::array<char, 40> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  return {buffer.data(), end};
}

DeepLink link_of(const State& state, const std::string& capture) {
  DeepLink link{capture, {}};
  const Selection& s = state.selection;
  const Display& d = state.display;
  const State fresh;
  const auto add = [&](std::string name, std::string value) {
    link.fields.emplace_back(std::move(name), std::move(value));
  };
  if (s.run != 0) add("run", std::to_string(s.run));
  add("step", std::to_string(s.step));
  add("rank", std::to_string(s.rank));
  if (!s.point.empty()) add("point", s.point);
  for (const auto& [axis, at] : s.cell) add(axis, std::to_string(at));
  if (s.finding >= 0) add("finding", std::to_string(s.finding));
  if (d.mode != fresh.display.mode) add("mode", std::string(to_string(d.mode)));
  if (d.metric != fresh.display.metric) add("metric", std::string(to_string(d.metric)));
  if (d.map != fresh.display.map) add("map", std::string(to_string(d.map)));
  if (d.tolerance != fresh.display.tolerance) add("tolerance", text_of(d.tolerance));
  if (d.low != fresh.display.low) add("low", text_of(d.low));
  if (d.high != fresh.display.high) add("high", text_of(d.high));
  if (d.log_range != fresh.display.log_range) add("log", d.log_range ? "1" : "0");
  if (d.scale != fresh.display.scale) add("scale", text_of(d.scale));
  for (const auto& [panel, view] : d.views) {
    if (view == PlaneView{}) continue;
    add("view." + panel, text_of(view.x) + "," + text_of(view.y) + "," + text_of(view.zoom));
  }
  for (const auto& [name, value] : d.options) add("opt." + name, value);
  if (state.panel != fresh.panel) add("panel", state.panel);
  if (state.layout != fresh.layout) add("layout", state.layout);
  return link;
}

Result<State> with_link(const State& state, const DeepLink& link) {
  State out = state;
  for (const auto& [name, value] : link.fields) PS_TRY_VOID(apply(out, name, value));
  return out;
}

}  // namespace ps::viewer
