#include "viewer/app/command_words.h"

#include <algorithm>

#include "viewer/app/app.h"

namespace ps::viewer {

Result<void> expect(const Words& words, std::size_t least, std::size_t most,
                    const std::string& command) {
  if (words.size() >= least && words.size() <= most) return {};
  const CommandInfo* info = find_command(command);
  const std::string usage = info == nullptr ? "" : std::string(info->arguments);
  return bad_input(command, words.size() < least ? "needs more words" : "has too many words",
                   usage.empty() && most == 0 ? "none" : usage,
                   words.empty() ? "none" : std::to_string(words.size()));
}

Result<std::int64_t> changed(const std::string& word, const std::string& what, std::int64_t now,
                             std::int64_t low, std::int64_t high) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  if (word.starts_with("+") || word.starts_with("-")) {
    PS_TRY(const std::int64_t by,
           integer_of(word.starts_with("+") ? word.substr(1) : word, what, -kMost, kMost));
    return std::clamp(std::clamp(now, low, high) + by, low, high);
  }
  return integer_of(word, what, low, high);
}

std::pair<std::ptrdiff_t, std::ptrdiff_t> matrix_axes(const Display& display,
                                                      const std::vector<NamedAxis>& axes) {
  const auto by_name = [&](const std::string& name) -> std::ptrdiff_t {
    for (std::ptrdiff_t i = 0; i < std::ssize(axes); ++i) {
      if (axes[static_cast<std::size_t>(i)].name == name) return i;
    }
    return -1;
  };
  std::ptrdiff_t rows = by_name(display.option("tensor.rows"));
  std::ptrdiff_t columns = by_name(display.option("tensor.columns"));
  if (rows == columns) rows = -1;
  const auto take = [&](std::ptrdiff_t other) {
    for (std::ptrdiff_t i = std::ssize(axes); i-- > 0;) {
      if (i != other && axes[static_cast<std::size_t>(i)].size > 1) return i;
    }
    for (std::ptrdiff_t i = std::ssize(axes); i-- > 0;) {
      if (i != other) return i;
    }
    return std::ptrdiff_t{-1};
  };
  if (columns < 0) columns = take(rows);
  if (rows < 0) rows = take(columns);
  return {rows, columns};
}

std::vector<NamedAxis> shown_axes(const App& app) {
  const Selection& s = app.state.selection;
  const TensorView* tensor = app.session.shown(s.run, s.step, s.rank, s.point);
  if (tensor == nullptr) return {};
  return app.session.axes(s.step, s.rank, s.point, tensor->shape);
}

}  // namespace ps::viewer
