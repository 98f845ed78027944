#include "viewer/data/mask_place.h"

#include <algorithm>

#include "viewer/data/places.h"

namespace ps::viewer {

MaskKey mask_key(const App& app, MaskWork& work) {
  const Selection& s = app.state.selection;
  work = {app.session.run(s.run), app.session.reference(), app.session.masks(), std::nullopt};
  if (work.run == nullptr && work.sources.empty()) work.run = work.reference;
  if (const ModelConfig* config = app.session.config()) work.config = *config;
  const RowPlace place = row_place(app, work.run.get(), s.step);
  MaskKey key;
  key.version = app.session.version();
  key.run = s.run;
  key.step = s.step;
  key.rank = s.rank;
  key.layer = selected_layer(s);
  key.row = work.sources.empty() ? place.row() : s.at("batch");
  key.batch = place.batch;
  key.head = s.at("head");
  key.expected = app.state.display.option("mask.expected");
  key.actual = app.state.display.option("mask.actual");
  key.expression = app.state.display.option("mask.expression");
  key.blocks = app.state.display.option("mask.blocks");
  return key;
}

std::int64_t mask_bytes(const MaskWork& work, const MaskKey& key) {
  const TraceStep* step = work.run == nullptr ? nullptr : find_step(*work.run, key.step, key.rank);
  if (step == nullptr) return 0;
  std::int64_t bytes = 0;
  for (const auto& entry : step->tensors->entries()) {
    if (entry.name.ends_with(":probs") || entry.name.starts_with("model:mask"))
      bytes += std::ssize(entry.view.bytes);
  }
  return bytes;
}

bool looks_at_masks(const App& app) {
  return app.session.only_masks() || (app.state.panel == "mask" && !app.session.empty());
}

void go_to_mask_cell(App& app, const view::CellAt& cell) {
  Selection& s = app.state.selection;
  s.cell["query"] = cell.first;
  s.cell["key"] = cell.second;
  const auto found = app.state.display.views.find("mask");
  if (found == app.state.display.views.end() || found->second.zoom <= 1) return;
  found->second.x = static_cast<double>(cell.second) + 0.5;
  found->second.y = static_cast<double>(cell.first) + 0.5;
}

Result<bool> go_to_mask_error(App& app, int direction) {
  MaskWork work;
  MaskKey key = mask_key(app, work);
  key.expression.clear();
  key.blocks = "none";
  const MaskModelPtr here = made_mask_model(work, key);
  if (!here->problem.empty()) return bad_input("mask", here->problem);
  if (!here->pair.expected || !here->pair.actual) return false;
  const Selection& s = app.state.selection;
  const view::CellAt at{s.at("query"), s.at("key")};
  const auto say = [&](const view::PlanePair& pair, const view::CellAt& cell) {
    app.say("wrong cell at query " + std::to_string(cell.first) + " key " +
            std::to_string(cell.second) + ": " +
            (pair.actual->at(cell.first, cell.second) ? "a leak" : "hidden") + "; " +
            std::to_string(pair.leaks) + (pair.leaks == 1 ? " leak, " : " leaks, ") +
            std::to_string(pair.hides) + " hidden in this plane");
    go_to_mask_cell(app, cell);
    return true;
  };
  if (!here->pair.errors.empty()) {
    const auto cell = direction == 0  ? here->pair.errors.first()
                      : direction > 0 ? view::next_piece(here->pair.errors, at)
                                      : view::previous_piece(here->pair.errors, at);
    if (cell) return say(here->pair, *cell);
  }
  // Other planes of masks that were opened by themselves.
  const auto dims = here->set->dims();
  if (work.sources.empty() || !dims || dims->B * dims->H > 4096) return false;
  const auto expected = here->set->get(here->expected_name),
             actual = here->set->get(here->actual_name);
  if (!expected.ok() || !actual.ok()) return false;
  const std::int64_t planes = dims->B * dims->H;
  const std::int64_t now = std::clamp<std::int64_t>(key.row, 0, dims->B - 1) * dims->H +
                           std::clamp<std::int64_t>(key.head, 0, dims->H - 1);
  for (std::int64_t i = 1; i < planes; ++i) {
    const std::int64_t plane = (now + (direction < 0 ? planes - i : i)) % planes;
    const std::int64_t row = plane / dims->H, head = plane % dims->H;
    const view::PlanePair there = view::pair_of(expected->get(), actual->get(), row, head);
    if (there.errors.empty()) continue;
    app.state.selection.cell["batch"] = row;
    app.state.selection.cell["head"] = head;
    if (const auto cell = there.errors.first()) return say(there, *cell);
  }
  return false;
}

}  // namespace ps::viewer
