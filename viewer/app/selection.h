// What a user looks at and how it is shown, as plain data: panels read it, commands change it, undo
// keeps copies of it, a deep link is its text. There is no other view state worth keeping.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "diff/report/link.h"

namespace ps::viewer {

struct Selection {
  std::int64_t run = 0;  // which of the runs that are open
  std::int64_t step = 0;
  std::int64_t rank = 0;
  std::string point;  // "model.layers.0.self_attn:probs"; empty: none
  std::map<std::string, std::int64_t, std::less<>> cell;  // "head" -> 3; an axis not here is at 0
  std::int64_t finding = -1;                              // index into the report's findings

  std::int64_t at(std::string_view axis) const;
  std::int64_t at(std::string_view axis, std::int64_t size) const;  // held to [0, size)
  bool operator==(const Selection&) const = default;
};

enum class Mode : std::uint8_t { kExpected, kActual, kDiff };
enum class Metric : std::uint8_t { kRatio, kAbs, kRel, kUlp };
enum class ColorMap : std::uint8_t { kCividis, kViridis, kGray };

// Where a panel that can be moved and zoomed stands: the middle of what is seen, in cells, and
// pixels a cell. zoom 0: all of it.
struct PlaneView {
  double x = 0, y = 0, zoom = 0;
  bool operator==(const PlaneView&) const = default;
};

struct Display {
  Mode mode = Mode::kDiff;
  Metric metric = Metric::kRatio;
  double tolerance = 1;  // an error over `tolerance` bounds is wrong
  ColorMap map = ColorMap::kCividis;
  bool log_range = true;
  double low = 0, high = 0;  // the colours' range; equal: fitted to what is seen
  double scale = 1;          // of text and panels, 1 to 2.5
  std::map<std::string, PlaneView, std::less<>> views;      // by panel
  std::map<std::string, std::string, std::less<>> options;  // "mask.expression": a panel's own

  PlaneView view(std::string_view panel) const;
  std::string option(std::string_view name, std::string_view otherwise = {}) const;
  bool operator==(const Display&) const = default;
};

struct State {
  Selection selection;
  Display display;
  std::string panel = "divergence";  // the one with the keyboard
  std::string layout = "triage";
  bool operator==(const State&) const = default;
};

// Every word that a link, a command and a test may use for the enums, in order.
std::string_view to_string(Mode mode);
std::string_view to_string(Metric metric);
std::string_view to_string(ColorMap map);
Result<Mode> mode_of(std::string_view word);
Result<Metric> metric_of(std::string_view word);
Result<ColorMap> map_of(std::string_view word);

// Only what differs from a fresh State is written, so links stay short.
DeepLink link_of(const State& state, const std::string& capture);
// `state` changed by what the link says. Fields that nothing is known of are an Error.
Result<State> with_link(const State& state, const DeepLink& link);

Result<std::int64_t> integer_of(std::string_view text, std::string_view name, std::int64_t low,
                                std::int64_t high);
Result<double> number_of(std::string_view text, std::string_view name, double low, double high);
std::string text_of(double number);  // the shortest that reads back the same

}  // namespace ps::viewer
