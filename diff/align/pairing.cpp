#include "diff/align/pairing.h"

#include <algorithm>
#include <map>

#include "core/points.h"

namespace ps {

namespace {

std::map<std::string, const TensorView*> named(const TraceStep* step, const Rename& rename) {
  std::map<std::string, const TensorView*> out;
  if (step == nullptr || step->tensors == nullptr) return out;
  for (const SafetensorsFile::Entry& entry : step->tensors->entries()) {
    if (is_step_input(entry.name)) continue;
    const std::string name = canonical_point(rename ? rename(entry.name) : entry.name);
    // Where an alias and the name itself are both there, the name itself counts.
    if (name == entry.name || !out.contains(name)) out[name] = &entry.view;
  }
  return out;
}

void fill(StepPair& step, const Rename& rename) {
  const auto mine = named(step.candidate, rename);
  const auto theirs = named(step.expected, rename);
  for (const auto& [name, view] : theirs) {
    const auto found = mine.find(name);
    step.pairs.push_back(
        {step.step, step.rank, name, found == mine.end() ? nullptr : found->second, view});
  }
  for (const auto& [name, view] : mine) {
    if (!theirs.contains(name)) step.pairs.push_back({step.step, step.rank, name, view, nullptr});
  }
  std::sort(step.pairs.begin(), step.pairs.end(),
            [](const Pair& a, const Pair& b) { return point_before(a.point, b.point); });
}

}  // namespace

bool is_step_input(std::string_view name) {
  return name == "input_ids" || name == "attention_mask" || name == "position_ids" ||
         name == "input_mask";
}

std::vector<StepPair> pair_traces(const Trace& candidate, const Trace& expected,
                                  const Rename& rename) {
  std::map<std::pair<std::int64_t, std::int64_t>, StepPair> steps;
  // Two single files are one step each, whatever their manifests call it.
  const auto is_file = [](const Trace& t) {
    std::error_code ignored;
    return t.steps().size() == 1 && std::filesystem::is_regular_file(t.path(), ignored);
  };
  const bool bare = is_file(candidate) && is_file(expected);
  const auto key = [&](const TraceStep& s) {
    return bare ? std::pair<std::int64_t, std::int64_t>{0, 0} : std::pair{s.step, s.rank};
  };
  for (const TraceStep& s : expected.steps()) steps[key(s)].expected = &s;
  for (const TraceStep& s : candidate.steps()) steps[key(s)].candidate = &s;
  std::vector<StepPair> out;
  for (auto& [at, pair] : steps) {
    pair.step = at.first;
    pair.rank = at.second;
    fill(pair, rename);
    out.push_back(std::move(pair));
  }
  return out;
}

std::int64_t layers_shown(const std::vector<StepPair>& steps) {
  std::int64_t layers = 0;
  for (const StepPair& step : steps) {
    for (const Pair& pair : step.pairs) {
      if (const auto ref = find_point(pair.point)) layers = std::max(layers, ref->layer + 1);
    }
  }
  return layers;
}

}  // namespace ps
