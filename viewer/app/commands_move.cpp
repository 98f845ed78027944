// Commands that move the selected cell: along an axis, or by the arrow keys in what has the
// keyboard.
#include <algorithm>

#include "viewer/app/app.h"
#include "viewer/app/command_words.h"
#include "viewer/app/commands.h"

namespace ps::viewer {

namespace {

Result<void> move_axis(App& app, const std::string& axis, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, axis));
  std::int64_t size = 0;
  for (const NamedAxis& a : shown_axes(app)) {
    if (a.name == axis) size = a.size;
  }
  if (size == 0) {
    for (const auto& source : app.session.masks()) {
      if (!source->program) continue;
      const mask::Dims& d = source->program->dims;
      const std::pair<std::string_view, std::int64_t> sizes[] = {
          {"batch", d.B}, {"head", d.H}, {"query", d.Q}, {"key", d.KV}};
      for (const auto& [name, n] : sizes) {
        if (name == axis) size = std::max(size, n);
      }
    }
  }
  if (size == 0 && axis == "head") return move_axis(app, "kv_head", words);
  if (size == 0) {
    // Other points have this axis; the place is kept for them.
    const ModelConfig* config = app.session.config();
    if (axis == "replica" && config != nullptr) size = config->replicas;
    if (axis == "kv_head" && config != nullptr) size = config->heads;
    if (size == 0) {
      return bad_input(axis, "is no axis of what is shown");
    }
  }
  std::int64_t& at = app.state.selection.cell[axis];
  PS_TRY(at, changed(words[0], axis, at, 0, size - 1));
  return {};
}

void shift(Selection& s, const NamedAxis& axis, std::int64_t by) {
  if (by == 0 || axis.size <= 0) return;
  s.cell[axis.name] = std::clamp<std::int64_t>(s.at(axis.name, axis.size) + by, 0, axis.size - 1);
}

std::int64_t size_of(const App& app, const char* point, std::size_t axis) {
  const Selection& s = app.state.selection;
  const TensorView* tensor = app.session.shown(s.run, s.step, s.rank, point);
  if (tensor == nullptr || tensor->shape.size() <= axis) return 0;
  return tensor->shape[tensor->shape.size() - 1 - axis];
}

// What the arrows move in a panel that does not show the selected tensor: rows, then columns.
std::optional<std::pair<NamedAxis, NamedAxis>> axes_of_panel(const App& app) {
  const std::string& panel = app.state.panel;
  const Selection& s = app.state.selection;
  if (panel == "mask") {
    std::int64_t rows = 0, columns = 0;
    if (!app.session.masks().empty() && app.session.masks().front()->program) {
      rows = app.session.masks().front()->program->dims.Q;
      columns = app.session.masks().front()->program->dims.KV;
    }
    for (const std::string& point : app.session.points(s.run, s.step, s.rank)) {
      const bool has_cells = point == "model:mask" || point.ends_with("self_attn:probs");
      if (rows > 0 || !has_cells) continue;
      rows = size_of(app, point.c_str(), 1);
      columns = size_of(app, point.c_str(), 0);
    }
    if (rows > 0) return std::pair(NamedAxis{"query", rows}, NamedAxis{"key", columns});
  }
  if (panel == "tokens" || panel == "replicas") {
    const std::int64_t tokens = size_of(app, "input_ids", 0);
    const NamedAxis none{"", 0}, token{"token", tokens};
    if (tokens > 0) return panel == "tokens" ? std::pair(token, none) : std::pair(none, token);
  }
  return std::nullopt;
}

}  // namespace

Result<void> command_cell(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 2, 2, "cell"));
  return move_axis(app, words[0], {words[1]});
}

Result<void> command_move(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "move"));
  const std::size_t comma = words[0].find(',');
  if (comma == std::string::npos) return bad_input("move", "wants ROWS,COLUMNS", "0,1", words[0]);
  constexpr std::int64_t kMost = 1 << 20;
  PS_TRY(const std::int64_t rows, integer_of(words[0].substr(0, comma), "rows", -kMost, kMost));
  PS_TRY(const std::int64_t columns,
         integer_of(words[0].substr(comma + 1), "columns", -kMost, kMost));
  if (const auto axes = axes_of_panel(app)) {
    shift(app.state.selection, axes->first, rows);
    shift(app.state.selection, axes->second, columns);
    return {};
  }
  const std::vector<NamedAxis> axes = shown_axes(app);
  if (axes.empty()) return bad_input("move", "there is no tensor to move in");
  const auto [row_axis, column_axis] = matrix_axes(app.state.display, axes);
  if (row_axis >= 0) shift(app.state.selection, axes[static_cast<std::size_t>(row_axis)], rows);
  if (column_axis >= 0)
    shift(app.state.selection, axes[static_cast<std::size_t>(column_axis)], columns);
  return {};
}

Result<void> command_head(App& app, const Words& words) { return move_axis(app, "head", words); }
Result<void> command_replica(App& app, const Words& words) {
  return move_axis(app, "replica", words);
}
Result<void> command_batch(App& app, const Words& words) { return move_axis(app, "batch", words); }

}  // namespace ps::viewer
