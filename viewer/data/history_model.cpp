#include "viewer/data/history_model.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/points.h"
#include "viewer/data/places.h"

namespace ps::viewer {

namespace {

// Points whose tokens are keys: what the pair's key went through before it was attended.
bool is_of_key(std::string_view op) {
  for (const std::string_view name : {".k_proj", ".v_proj", ".k_norm", ":k_rope"}) {
    if (op.ends_with(name)) return true;
  }
  return false;
}

// Where the place lies on an axis; nothing: the axis is searched. -1: the point has no such cell.
std::optional<std::int64_t> at_axis(const HistoryPlace& p, const NamedAxis& axis, bool of_key) {
  std::int64_t at = 0;
  if (axis.name == "replica") {
    at = p.replica;
  } else if (axis.name == "batch") {
    at = p.batch;
  } else if (axis.name == "head") {
    at = p.head;
  } else if (axis.name == "kv_head") {
    at = p.kv_head;
  } else if (axis.name == "query" || axis.name == "token") {
    at = of_key ? p.key_token : p.token;
  } else if (axis.name == "key" || axis.name == "slot") {
    at = p.slot;
  } else {
    return std::nullopt;
  }
  if (axis.size == 1) return 0;  // broadcast
  return at < axis.size ? at : -1;
}

// Calls `visit` with every flat index of the slice.
template <class Visit>
void each_cell(const std::vector<NamedAxis>& axes, const std::vector<std::int64_t>& fixed,
               const Visit& visit) {
  std::vector<std::int64_t> at(axes.size(), 0);
  for (std::size_t i = 0; i < axes.size(); ++i) at[i] = std::max<std::int64_t>(fixed[i], 0);
  while (true) {
    std::int64_t flat = 0;
    for (std::size_t i = 0; i < axes.size(); ++i) flat = flat * axes[i].size + at[i];
    visit(flat);
    std::size_t i = axes.size();
    while (i-- > 0) {
      if (fixed[i] >= 0) continue;
      if (++at[i] < axes[i].size) break;
      at[i] = 0;
    }
    if (i >= axes.size()) return;
  }
}

std::optional<HistoryRow> row_of(const Session& session, const HistoryPlace& place,
                                 const std::string& point, double tolerance) {
  const TensorView* actual = session.actual(place.run, place.step, place.rank, point);
  const TensorView* expected = session.expected(place.step, place.rank, point);
  const TensorView* any = actual != nullptr ? actual : expected;
  if (any == nullptr || any->count() == 0) return std::nullopt;
  HistoryRow row;
  row.point = point;
  row.of_key = is_of_key(point);
  row.has_actual = actual != nullptr;
  row.has_expected = expected != nullptr && (actual == nullptr || expected->shape == actual->shape);
  const std::vector<NamedAxis> axes = session.axes(place.step, place.rank, point, any->shape);
  std::vector<std::int64_t> fixed;
  for (const NamedAxis& axis : axes) {
    const auto at = at_axis(place, axis, row.of_key);
    if (at && *at < 0) return std::nullopt;
    fixed.push_back(at.value_or(-1));
  }
  const std::int64_t layers = session.config() == nullptr ? 0 : session.config()->layers;
  std::optional<TensorPair> pair;
  if (row.has_actual && row.has_expected) pair.emplace(*actual, *expected, layers);
  std::int64_t worst = -1;
  double most = -1;
  each_cell(axes, fixed, [&](std::int64_t flat) {
    ++row.cells;
    double ratio = 0;
    if (pair) {
      ratio = pair->measure(Metric::kRatio, flat);
      if (std::isnan(ratio)) ratio = HUGE_VAL;
      row.wrong += ratio > tolerance ? 1 : 0;
    }
    if (ratio > most) {
      most = ratio;
      worst = flat;
    }
  });
  if (worst < 0) return std::nullopt;
  const std::vector<std::int64_t> at = index_of(axes, worst);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    row.cell.emplace_back(axes[i].name, at[i]);
    if (axes[i].size <= 1) continue;
    row.where += (row.where.empty() ? "" : " ") + axes[i].name + "=" + std::to_string(at[i]);
  }
  if (pair) {
    row.values = pair->at(worst);
  } else {
    const double value = value_at(*any, worst);
    row.values.actual = row.values.expected = value;
  }
  return row;
}

}  // namespace

std::string HistoryPlace::words() const {
  std::string out = layer < 0 ? "" : "layer " + std::to_string(layer) + "  ";
  out += "replica " + std::to_string(replica) + "  sample " + std::to_string(batch) + "  head " +
         std::to_string(head) + "  query " + std::to_string(token) + "  key slot " +
         std::to_string(slot);
  return out;
}

HistoryPlace history_place(const Session& session, const Selection& s) {
  HistoryPlace p;
  p.run = s.run;
  p.step = s.step;
  p.rank = s.rank;
  p.layer = selected_layer(s);
  const ModelConfig* config = session.config();
  const std::int64_t prefix = config == nullptr ? 0 : config->prefix_tokens;
  RunPtr run = session.run(s.run);
  if (run == nullptr) run = session.reference();
  const std::int64_t past = run == nullptr ? 0 : past_of(*run, s.step, s.rank);
  const TensorView* ids = run == nullptr ? nullptr : run->find(s.step, s.rank, "input_ids");
  const std::int64_t tokens = ids != nullptr && ids->shape.size() == 2 ? ids->shape[1] : 1;
  const std::int64_t samples = ids != nullptr && ids->shape.size() == 2 ? ids->shape[0] : 1;
  p.replica = s.at("replica", config == nullptr ? 1 : std::max<std::int64_t>(config->replicas, 1));
  p.batch = s.at("batch", samples);
  const std::int64_t heads = config == nullptr ? 1 : std::max<std::int64_t>(config->heads, 1);
  const std::int64_t kv_heads = config == nullptr ? 1 : std::max<std::int64_t>(config->kv_heads, 1);
  // What the selected point has says which of the coordinates are meant.
  const TensorView* shown = session.shown(s.run, s.step, s.rank, s.point);
  const std::vector<NamedAxis> axes = shown == nullptr
                                          ? std::vector<NamedAxis>()
                                          : session.axes(s.step, s.rank, s.point, shown->shape);
  const auto has = [&](std::string_view name) {
    return std::any_of(axes.begin(), axes.end(),
                       [&](const NamedAxis& a) { return a.name == name; });
  };
  if (has("kv_head")) {
    p.kv_head = s.at("kv_head", kv_heads);
    p.head = p.kv_head * (heads / kv_heads);
  } else {
    p.head = s.at("head", heads);
    p.kv_head = p.head / std::max<std::int64_t>(heads / kv_heads, 1);
  }
  const std::int64_t slots = prefix + past + tokens;
  if (has("query")) {
    p.token = s.at("query", tokens);
    p.slot = s.at("key", slots);
  } else if (has("slot")) {
    p.slot = s.at("slot", slots);
    p.token = std::clamp<std::int64_t>(p.slot - prefix - past, 0, tokens - 1);
  } else {
    // Of a query's points the key that was chosen with it stays; of a key's, the query.
    const std::int64_t token = s.at("token", tokens);
    const bool chosen = s.cell.contains("query") && s.cell.contains("key");
    if (is_of_key(s.point)) {
      p.token = chosen ? s.at("query", tokens) : token;
      p.slot = prefix + past + token;
    } else {
      p.token = token;
      p.slot = chosen && s.at("query") == token ? s.at("key", slots) : prefix + past + token;
    }
  }
  p.key_token = p.slot - prefix - past;
  if (p.key_token < 0 || p.key_token >= tokens) p.key_token = -1;
  return p;
}

std::shared_ptr<const HistoryModel> made_history(const Session& session, const HistoryPlace& place,
                                                 double tolerance, const std::stop_token& stop) {
  auto m = std::make_shared<HistoryModel>();
  for (const std::string& point : session.points(place.run, place.step, place.rank)) {
    if (stop.stop_requested()) return m;
    const auto ref = find_point(point);
    if (!ref || ref->partial || (ref->layer >= 0 && ref->layer != place.layer)) continue;
    if (point.find("rotary_emb") != std::string::npos) continue;
    if (auto row = row_of(session, place, point, tolerance)) m->rows.push_back(std::move(*row));
  }
  for (std::size_t i = 0; i < m->rows.size() && m->first < 0; ++i) {
    if (m->rows[i].differs()) m->first = static_cast<std::ptrdiff_t>(i);
  }
  return m;
}

}  // namespace ps::viewer
