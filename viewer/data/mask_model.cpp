#include "viewer/data/mask_model.h"

#include <algorithm>

#include "viewer/data/mask_blocks.h"
#include "viewer/data/places.h"

namespace ps::viewer {

namespace {

Result<view::MaskSet> set_of_sources(const MaskWork& work) {
  PS_TRY(mask::Expected expected, mask::expected_from(*work.sources[0], std::nullopt, {}));
  std::optional<mask::Mask> actual;
  if (work.sources.size() > 1) {
    PS_TRY(mask::Reading reading, mask::read_source(*work.sources[1], &expected, std::nullopt, {}));
    actual = std::move(reading.mask);
  }
  return view::MaskSet::of_program(expected.program(), std::move(actual));
}

void add_bands(const MaskWork& work, const MaskKey& key, MaskModel& m) {
  if (work.run != nullptr && work.config) {
    const TraceStep* step = find_step(*work.run, key.step, key.rank);
    const std::int64_t past = past_of(*work.run, key.step, key.rank);
    const auto inputs = step == nullptr ? Result<StepInputs>(Error{}) : step_inputs(*step, past);
    if (inputs.ok() && key.batch < inputs->batch) {
      m.keys = view::key_bands(*inputs, work.config->prefix_tokens, past, key.batch);
      m.queries = view::query_bands(*inputs, past, key.batch);
    }
  } else if (const mask::Program* p = m.set->program()) {
    m.keys = view::segment_bands(*p, p->kv_offset, p->dims.KV);
    m.queries =
        view::segment_bands(*p, p->q_offset_of(std::min(key.row, p->dims.B - 1)), p->dims.Q);
  }
}

std::shared_ptr<const mask::Mask> taken(view::MaskSet& set, const std::string& name,
                                        std::string& problem) {
  if (name.empty()) return nullptr;
  auto mask = set.get(name);
  if (mask.ok()) return *mask;
  problem = mask.error().line();
  return nullptr;
}

}  // namespace

MaskModelPtr made_mask_model(const MaskWork& work, const MaskKey& key) {
  auto m = std::make_shared<MaskModel>();
  m->run = work.run;
  m->reference = work.reference;
  m->row = key.row;
  m->head = key.head;
  const ModelConfig* config = work.config ? &*work.config : nullptr;
  m->set = std::make_shared<view::MaskSet>();
  if (!work.sources.empty()) {
    auto set = set_of_sources(work);
    if (set.ok()) *m->set = std::move(*set);
    if (!set.ok()) m->problem = set.error().line();
  } else if (work.run != nullptr) {
    if (const TraceStep* step = find_step(*work.run, key.step, key.rank)) {
      *m->set =
          view::MaskSet::of_step(*step, config, past_of(*work.run, key.step, key.rank), key.layer);
    }
  }
  if (work.sources.empty() && work.reference != nullptr) {
    if (const TraceStep* step = find_step(*work.reference, key.step, key.rank)) {
      auto set = view::MaskSet::of_step(*step, nullptr, 0, key.layer);
      std::string ignored;
      if (const auto mask = taken(set, set.actual_name(key.layer), ignored))
        m->set->add("reference", *mask);
    }
  }
  add_selected(work, key, *m);
  m->names = m->set->names();
  const auto known = [&](const std::string& name) {
    return std::find(m->names.begin(), m->names.end(), name) != m->names.end();
  };
  m->expected_name = known(key.expected)  ? key.expected
                     : known("selected")  ? "selected"
                     : known("expected")  ? "expected"
                     : known("reference") ? "reference"
                                          : "";
  m->actual_name = known(key.actual) ? key.actual : m->set->actual_name(key.layer);
  const auto expected = taken(*m->set, m->expected_name, m->problem);
  const auto actual = taken(*m->set, m->actual_name, m->problem);
  m->pair = view::pair_of(expected.get(), actual.get(), key.row, key.head);
  if (expected == nullptr && actual == nullptr) {
    if (m->problem.empty())
      m->problem =
          "This step has no mask: neither model:mask nor any probs were captured, and no model "
          "says what is expected.";
    return m;
  }
  if (expected != nullptr && actual != nullptr &&
      (expected->dims().Q != actual->dims().Q || expected->dims().KV != actual->dims().KV)) {
    m->problem = "The masks are of different sizes: " + to_string(expected->dims()) +
                 " expected, " + to_string(actual->dims()) + " found.";
  }
  add_bands(work, key, *m);
  add_tiles(work, key, *m);
  if (key.expression.empty()) return m;
  const auto result = m->set->evaluate(key.expression);
  if (!result.ok()) {
    m->algebra_problem = result.error().line();
    return m;
  }
  const std::int64_t b = std::min(key.row, result->dims().B - 1),
                     h = std::min(key.head, result->dims().H - 1);
  m->algebra = result->plane(b, h);
  m->algebra_cells = m->algebra->count();
  return m;
}

}  // namespace ps::viewer
