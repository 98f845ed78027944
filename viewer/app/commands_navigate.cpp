// Commands that say where to look.
#include <algorithm>

#include "core/points.h"
#include "viewer/app/app.h"
#include "viewer/app/command_words.h"
#include "viewer/app/commands.h"
#include "viewer/app/spots.h"
#include "viewer/data/mask_place.h"

namespace ps::viewer {

namespace {

void set_cell(Selection& s, const std::vector<NamedAxis>& axes, std::int64_t flat) {
  const std::vector<std::int64_t> at = index_of(axes, flat);
  for (std::size_t i = 0; i < axes.size(); ++i) s.cell[axes[i].name] = at[i];
}

// One of `all`, at or from `now` on in the direction of words[0].
Result<std::int64_t> stepped(const std::vector<std::int64_t>& all, std::int64_t now,
                             const Words& words, const std::string& what) {
  PS_TRY_VOID(expect(words, 1, 1, what));
  if (all.empty()) return bad_input(what, "cannot be chosen: nothing is open");
  const auto here = std::lower_bound(all.begin(), all.end(), now);
  const auto index = std::min<std::int64_t>(here - all.begin(), std::ssize(all) - 1);
  const bool relative = words[0].starts_with("+") || words[0].starts_with("-");
  if (relative) {
    PS_TRY(const std::int64_t i, changed(words[0], what, index, 0, std::ssize(all) - 1));
    return all[static_cast<std::size_t>(i)];
  }
  PS_TRY(const std::int64_t n, integer_of(words[0], what, 0, std::int64_t{1} << 40));
  if (std::binary_search(all.begin(), all.end(), n)) return n;
  return bad_input(what, "is not there",
                   std::to_string(all.front()) + " to " + std::to_string(all.back()), words[0]);
}

// The cell that a spot names; else the first wrong one, found by comparing.
void look_at(App& app, const Spot& spot) {
  Selection& s = app.state.selection;
  s.step = spot.step;
  s.rank = spot.rank;
  s.point = spot.point;
  const auto coordinates = coordinates_of(spot.where);
  for (const auto& [axis, at] : coordinates) s.cell[axis] = at;
  if (!coordinates.empty()) return;
  const TensorView* actual = app.session.actual(s.run, s.step, s.rank, s.point);
  const TensorView* expected = app.session.expected(s.step, s.rank, s.point);
  if (actual == nullptr || expected == nullptr) return;
  const ModelConfig* config = app.session.config();
  std::int64_t at = first_wrong_cell(*actual, *expected, config == nullptr ? 0 : config->layers);
  if (at < 0) at = worst_cell(*actual, *expected);
  if (at >= 0) set_cell(s, shown_axes(app), at);
}

Result<std::vector<Spot>> spots(const App& app) {
  const auto report = app.session.report(app.state.selection.run);
  if (report == nullptr) {
    return bad_input("divergences", app.session.empty()
                                        ? "there are none: nothing is open"
                                        : "are not known: open a report, or a trace to compare "
                                          "with (reference PATH)");
  }
  std::vector<Spot> out = spots_of(*report);
  if (out.empty()) return bad_input("divergences", "there are none");
  return out;
}

// Position of the selection among the spots: the first that does not come before it.
Result<void> go_to_spot(App& app, int direction) {
  PS_TRY(const std::vector<Spot> all, spots(app));
  const Selection& s = app.state.selection;
  std::ptrdiff_t now = direction > 0 ? -1 : std::ssize(all);
  for (std::ptrdiff_t i = 0; i < std::ssize(all); ++i) {
    const Spot& spot = all[static_cast<std::size_t>(i)];
    if (spot.step == s.step && spot.rank == s.rank && spot.point == s.point) now = i;
  }
  const bool here = now >= 0 && now < std::ssize(all);
  if (!here && !s.point.empty() && direction > 0) {  // from where the selection is, onwards
    while (now + 1 < std::ssize(all)) {
      const Spot& spot = all[static_cast<std::size_t>(now + 1)];
      const bool before =
          spot.step != s.step ? spot.step < s.step : point_before(spot.point, s.point);
      if (!before) break;
      ++now;
    }
  }
  const std::ptrdiff_t to = now + direction;
  if (to < 0 || to >= std::ssize(all)) {
    return bad_input("divergences", direction > 0 ? "this is the last" : "this is the first");
  }
  look_at(app, all[static_cast<std::size_t>(to)]);
  app.say("divergence " + std::to_string(to + 1) + " of " + std::to_string(all.size()) + ": " +
          app.state.selection.point);
  return {};
}

// Through the wrong cells of a mask where masks are looked at, else through the report.
Result<void> go_on(App& app, int direction) {
  if (!looks_at_masks(app)) return go_to_spot(app, direction);
  PS_TRY(const bool found, go_to_mask_error(app, direction));
  if (found) return {};
  if (app.session.report(app.state.selection.run) != nullptr && direction != 0)
    return go_to_spot(app, direction);
  const bool two = app.session.masks().size() == 2 || !app.session.runs().empty();
  return bad_input("mask", two ? "no cell differs" : "there is nothing to compare it with");
}

}  // namespace

Result<void> command_next(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "next"));
  return go_on(app, 1);
}
Result<void> command_previous(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "previous"));
  return go_on(app, -1);
}
Result<void> command_first(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "first"));
  if (looks_at_masks(app)) return go_on(app, 0);
  PS_TRY(const std::vector<Spot> all, spots(app));
  const auto report = app.session.report(app.state.selection.run);
  Spot spot = all.front();
  if (report->first_divergence) {
    const FirstDivergence& d = *report->first_divergence;
    spot = {d.step, d.rank, d.point, d.where};
  }
  look_at(app, spot);
  return {};
}

Result<void> command_go(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 16, "go"));
  Selection& s = app.state.selection;
  const std::string point = canonical_point(words[0]);
  const std::vector<std::string> all = app.session.points(s.run, s.step, s.rank);
  if (std::find(all.begin(), all.end(), point) == all.end()) {
    return bad_input(words[0], all.empty()
                                   ? "cannot be shown: step " + std::to_string(s.step) +
                                         " of rank " + std::to_string(s.rank) + " has no points"
                                   : "is no point of this step");
  }
  s.point = point;
  const std::vector<NamedAxis> axes = shown_axes(app);
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::size_t equals = words[i].find('=');
    if (equals == std::string::npos) {
      return bad_input("go", "wants coordinates", "AXIS=N", words[i]);
    }
    const std::string axis = words[i].substr(0, equals);
    std::int64_t size = axes.empty() ? std::int64_t{1} << 40 : 0;
    for (const NamedAxis& a : axes) {
      if (a.name == axis) size = a.size;
    }
    if (size == 0) return bad_input(axis, "is no axis of " + point);
    PS_TRY(s.cell[axis], integer_of(words[i].substr(equals + 1), axis, 0, size - 1));
  }
  return {};
}

Result<void> command_worst(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "worst"));
  Selection& s = app.state.selection;
  const TensorView* actual = app.session.actual(s.run, s.step, s.rank, s.point);
  const TensorView* expected = app.session.expected(s.step, s.rank, s.point);
  if (actual == nullptr || expected == nullptr) {
    return bad_input("worst cell", "cannot be found: this point has no tensor on both sides");
  }
  const std::int64_t at = worst_cell(*actual, *expected);
  if (at < 0) {
    return bad_input("worst cell", actual->shape == expected->shape
                                       ? "there is none: every cell is equal"
                                       : "cannot be found: the shapes differ");
  }
  set_cell(s, shown_axes(app), at);
  return {};
}

Result<void> command_layer(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "layer"));
  Selection& s = app.state.selection;
  const std::optional<PointRef> ref = find_point(s.point);
  if (!ref || ref->layer < 0) return bad_input("layer", "the selected point is in no layer");
  const std::vector<std::string> all = app.session.points(s.run, s.step, s.rank);
  std::vector<std::int64_t> layers;
  for (const std::string& name : all) {
    const std::optional<PointRef> other = find_point(name);
    if (other && other->spec == ref->spec && other->partial == ref->partial) {
      layers.push_back(other->layer);
    }
  }
  std::sort(layers.begin(), layers.end());
  PS_TRY(const std::int64_t layer, stepped(layers, ref->layer, words, "layer"));
  s.point = point_name(*ref->spec, layer) + (ref->partial ? ":partial" : "");
  return {};
}

Result<void> command_op(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "op"));
  Selection& s = app.state.selection;
  const std::vector<std::string> all = app.session.points(s.run, s.step, s.rank);
  if (all.empty()) return bad_input("op", "there are no points here");
  if (words[0].starts_with("+") || words[0].starts_with("-")) {
    const auto here = std::find(all.begin(), all.end(), s.point);
    const std::int64_t now = here == all.end() ? 0 : here - all.begin();
    PS_TRY(const std::int64_t to, changed(words[0], "op", now, 0, std::ssize(all) - 1));
    s.point = all[static_cast<std::size_t>(to)];
    return {};
  }
  const std::optional<PointRef> ref = find_point(s.point);
  const std::string prefix =
      ref && ref->layer >= 0 ? "model.layers." + std::to_string(ref->layer) : "";
  for (const bool same_layer : {true, false}) {
    for (const std::string& name : all) {
      const std::string_view end =
          std::string_view(name).substr(name.size() - std::min(name.size(), words[0].size()));
      const std::size_t before = name.size() - end.size();
      const bool whole = before == 0 || name[before - 1] == '.' || name[before - 1] == ':';
      if (end != words[0] || !whole) continue;
      if (same_layer && !(name + ".").starts_with(prefix + ".") &&
          !name.starts_with(prefix + ":")) {
        continue;
      }
      s.point = name;
      return {};
    }
  }
  return bad_input(words[0], "no point of this step ends so");
}

Result<void> command_step(App& app, const Words& words) {
  std::int64_t& at = app.state.selection.step;
  PS_TRY(at, stepped(app.session.steps(), at, words, "step"));
  return {};
}
Result<void> command_rank(App& app, const Words& words) {
  std::int64_t& at = app.state.selection.rank;
  PS_TRY(at, stepped(app.session.ranks(), at, words, "rank"));
  return {};
}

Result<void> command_run(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "run"));
  const auto runs = std::ssize(app.session.runs());
  if (runs == 0) return bad_input("run", "no trace is open");
  std::int64_t& at = app.state.selection.run;
  if (words[0] == "+1") {  // round and round, for one key
    at = (at + 1) % runs;
    return {};
  }
  PS_TRY(at, changed(words[0], "run", at, 0, runs - 1));
  return {};
}

Result<void> command_finding(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "finding"));
  Selection& s = app.state.selection;
  const auto report = app.session.report(s.run);
  if (report == nullptr || report->findings.empty()) {
    return bad_input("findings", report == nullptr ? "no report is open" : "there are none");
  }
  PS_TRY(s.finding, changed(words[0], "finding", s.finding, 0, std::ssize(report->findings) - 1));
  const Finding& f = report->findings[static_cast<std::size_t>(s.finding)];
  const std::vector<std::string> all = app.session.points(s.run, f.step, f.rank);
  if (std::find(all.begin(), all.end(), canonical_point(f.point)) != all.end()) {
    look_at(app, {f.step, f.rank, canonical_point(f.point), f.where});
  }
  return {};
}

}  // namespace ps::viewer
