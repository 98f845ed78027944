// Files, panels, links, history.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "viewer/app/app.h"
#include "viewer/app/command_words.h"
#include "viewer/app/commands.h"
#include "viewer/app/panels.h"
#include "viewer/data/mask_place.h"

namespace ps::viewer {

namespace {

// What was just opened is looked at where it went wrong; else at its first point.
void look_at_once(App& app) {
  Selection& s = app.state.selection;
  const auto report = app.session.report(s.run);
  if (report != nullptr && report->first_divergence) {
    const FirstDivergence& d = *report->first_divergence;
    s.step = d.step;
    s.rank = d.rank;
    s.point = d.point;
    for (const auto& [axis, at] : coordinates_of(d.where)) s.cell[axis] = at;
    return;
  }
  if (looks_at_masks(app) && app.session.masks().size() == 2) {
    (void)go_to_mask_error(app, 0);
    return;
  }
  if (!s.point.empty()) return;
  const std::vector<std::string> points = app.session.points(s.run, s.step, s.rank);
  if (!points.empty()) s.point = points.front();
}

// Round and round through the panels that are open; one panel alone is exchanged for any other.
Result<void> turn_panels(App& app, const std::string& word) {
  std::vector<std::string> names = app.open_panels;
  if (app.state.layout == "solo" || names.empty()) {
    names.clear();
    for (const PanelInfo& p : panel_table()) names.emplace_back(p.name);
  }
  const auto count = static_cast<std::int64_t>(names.size());
  PS_TRY(const std::int64_t by, integer_of(word.substr(1), "panel", 1, 1000));
  const auto here = std::find(names.begin(), names.end(), app.state.panel);
  const std::int64_t at = here == names.end() ? 0 : here - names.begin();
  const std::int64_t to = (at + (word[0] == '-' ? -by : by)) % count;
  app.state.panel = names[static_cast<std::size_t>((to + count) % count)];
  app.requests.focus = true;
  return {};
}

}  // namespace

Result<void> command_open(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "open"));
  PS_TRY_VOID(app.session.open(words[0]));
  look_at_once(app);
  app.refresh();
  return {};
}

void open_dropped(App& app, const std::vector<std::string>& paths) {
  std::string refused;
  for (const std::string& path : paths) {
    if (const Result<void> done = app.execute("open " + as_word(path)); !done.ok())
      refused += (refused.empty() ? "" : "; ") + done.error().line();
  }
  const bool hidden = !refused.empty() && app.log().back().text != refused;
  if (hidden) app.say(refused, LogLine::Kind::kError);
}

Result<void> command_reference(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "reference"));
  PS_TRY_VOID(app.session.open_reference(words[0]));
  look_at_once(app);
  app.refresh();
  return {};
}

Result<void> command_close(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "close"));
  app.session.close();
  app.state.selection = Selection();
  return {};
}

Result<void> command_picture(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 1, "picture"));
  app.requests.picture = words.empty() ? "parscope-view.png" : words[0];
  if (app.requests.picture.ends_with(".png")) return {};
  const std::string name = std::exchange(app.requests.picture, "");
  return bad_input("picture", "must be a .png file", "view.png", name);
}

Result<void> command_panel(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "panel"));
  if (words[0].starts_with('+') || words[0].starts_with('-')) return turn_panels(app, words[0]);
  if (find_panel(words[0]) == nullptr) {
    std::string all;
    for (const PanelInfo& p : panel_table()) all += (all.empty() ? "" : ", ") + std::string(p.name);
    return bad_input("panel", "unknown", all, words[0]);
  }
  app.state.panel = words[0];
  app.requests.focus = true;
  return {};
}

Result<void> command_layout(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "layout"));
  const LayoutInfo* layout = find_layout(words[0]);
  if (layout == nullptr) {
    std::string all;
    for (const LayoutInfo& l : layout_table())
      all += (all.empty() ? "" : ", ") + std::string(l.name);
    return bad_input("layout", "unknown", all, words[0]);
  }
  app.state.layout = words[0];
  if (!layout->main.empty()) app.state.panel = layout->main.substr(0, layout->main.find(' '));
  app.requests.layout = true;
  app.requests.focus = true;
  return {};
}

Result<void> command_link(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "link"));
  app.requests.clipboard = app.link();
  app.say(app.requests.clipboard);
  return {};
}

Result<void> command_follow(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 1, 1, "follow"));
  PS_TRY(const DeepLink link, parse_link(words[0]));
  if (!link.capture.empty() && link.capture != app.session.capture()) {
    return bad_input("link", "is of another capture than the one that is open", link.capture,
                     app.session.capture().empty() ? "nothing is open" : app.session.capture());
  }
  State fresh;
  fresh.display.scale = app.state.display.scale;
  fresh.layout = app.state.layout;
  fresh.panel = app.state.panel;
  PS_TRY(const State state, with_link(fresh, link));
  if (find_panel(state.panel) == nullptr) {
    return bad_input("link", "names a panel that does not exist", "", state.panel);
  }
  if (find_layout(state.layout) == nullptr) {
    return bad_input("link", "names a layout that does not exist", "", state.layout);
  }
  app.requests.layout = app.requests.layout || state.layout != app.state.layout;
  app.requests.focus = true;
  app.state = state;
  return {};
}

Result<void> command_undo(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "undo"));
  const State before = app.state;
  if (!app.history().undo(app.state)) return bad_input("undo", "there is nothing to take back");
  app.requests.layout = app.state.layout != before.layout;
  app.requests.focus = app.state.panel != before.panel;
  return {};
}
Result<void> command_redo(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "redo"));
  const State before = app.state;
  if (!app.history().redo(app.state)) return bad_input("redo", "there is nothing to make again");
  app.requests.layout = app.state.layout != before.layout;
  app.requests.focus = app.state.panel != before.panel;
  return {};
}

Result<void> command_reset(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "reset"));
  app.state.display = Display();
  return {};
}

Result<void> command_palette(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 1, "palette"));
  app.requests.toggle_palette = true;
  app.requests.palette_text = words.empty() ? "" : words[0] + " ";
  return {};
}
Result<void> command_help(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "help"));
  app.requests.toggle_help = true;
  return {};
}
Result<void> command_clear(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "clear"));
  app.clear_log();
  return {};
}
Result<void> command_quit(App& app, const Words& words) {
  PS_TRY_VOID(expect(words, 0, 0, "quit"));
  app.requests.quit = true;
  return {};
}

}  // namespace ps::viewer
