#include "reference/fault_tools.h"

#include "reference/bridge.h"
#include "reference/ops/blocks.h"
#include "reference/weights.h"

namespace ps::reference {

at::Tensor through(const at::Tensor& x, at::ScalarType type) {
  return x.to(type).to(x.scalar_type());
}

std::string module_words(const Point& point) {
  const std::size_t at = point.find_last_of(".:");
  return at == std::string::npos ? point : point.substr(at + 1);
}

void propose_wrap(Scene&, Proposals& out, const std::vector<Point>& points, const BadRun& bad,
                  const std::string& variant, const Parameters& parameters, int freedom,
                  bool signature) {
  for (const Scope& scope : scopes(points)) {
    out.push_back(
        {joined(variant, scope.words), parameters, wrap(scope.points, bad), freedom, signature});
  }
}

// ---- rotary tables ----------------------------------------------------------------------------

namespace {

at::Tensor changed_frequencies(const StepContext& c, const RopeChange& change) {
  at::Tensor f = change.frequencies ? change.frequencies(c) : rope_frequencies(*c.config, c.types);
  f = f.to(c.types.island);
  return change.round_frequencies ? change.round_frequencies(f) : f;
}

// [1 or R,S,D]; `given` are the frequencies that the trace has, used unless they are changed.
at::Tensor changed_table(const StepContext& c, const RopeChange& change, bool sine) {
  at::Tensor position = change.positions ? change.positions(c) : rope_positions(c);
  position = position.to(c.types.island);
  // As many rows as the right tables have.
  if (c.inputs->position_ids && position.size(0) == 1) position = position.repeat({c.rows(), 1});
  if (change.round_positions) position = change.round_positions(position);
  at::Tensor angle = position.unsqueeze(-1) * changed_frequencies(c, change);
  if (change.round_angles) angle = change.round_angles(angle);
  const at::Tensor both_halves = at::cat({angle, angle}, -1);
  at::Tensor value = sine ? at::sin(both_halves) : at::cos(both_halves);
  const double scale = change.scale
                           ? *change.scale
                           : rope_table_scale(c.config->rope, c.config->max_position_embeddings);
  if (scale != 1.0) value = value * scale;
  if (change.round_table) value = change.round_table(value);
  return value.to(c.types.model);
}

Edit replace_tables(const RopeChange& change) {
  return [change](const Net& net, Overrides& out) {
    const StepContext c = net.context();
    for (const Op& op : net.ops()) {
      if (op.kind != "rope_table" && op.kind != "rope_freq") continue;
      Op wrong = op;
      const bool sine = op.point.ends_with(":sin");
      const bool frequencies = op.kind == "rope_freq";
      wrong.run = [=](const Tensors&, const Tensors&) {
        return frequencies ? changed_frequencies(c, change) : changed_table(c, change, sine);
      };
      out.insert_or_assign(op.point, std::move(wrong));
    }
  };
}

Edit rotate_with(const std::vector<Point>& points, const RopeChange& change) {
  return [points, change](const Net& net, Overrides& out) {
    const StepContext c = net.context();
    wrap(points, [=](const Op& good, const Tensors& in, const Tensors& w) {
      return good.run({in[0], changed_table(c, change, false), changed_table(c, change, true)}, w);
    })(net, out);
  };
}

std::vector<Point> only(const std::vector<Point>& points, std::string_view suffix) {
  std::vector<Point> out;
  for (const Point& point : points) {
    if (point.ends_with(suffix)) out.push_back(point);
  }
  return out;
}

}  // namespace

Edit tables_edit(Scene& scene, const RopeChange& change) {
  const std::vector<Point> rotations = scene.ops("rope");
  if (!rotations.empty()) return rotate_with(rotations, change);
  const bool tables = !scene.ops("rope_table").empty() || !scene.ops("rope_freq").empty();
  return tables ? replace_tables(change) : Edit();
}

void propose_tables(Scene& scene, Proposals& out, const RopeChange& change,
                    const std::string& variant, const Parameters& parameters, int freedom,
                    bool either) {
  const std::vector<Point> rotations = scene.ops("rope");
  if (rotations.empty()) {
    if (const Edit edit = tables_edit(scene, change)) {
      out.push_back({variant, parameters, edit, freedom});
    }
    return;
  }
  for (const Scope& scope : scopes(rotations)) {
    out.push_back(
        {joined(variant, scope.words), parameters, rotate_with(scope.points, change), freedom});
  }
  const std::vector<Point> q = only(rotations, ":q_rope"), k = only(rotations, ":k_rope");
  if (!either || q.empty() || k.empty()) return;
  out.push_back({joined(variant, "queries only"), parameters, rotate_with(q, change), freedom});
  out.push_back({joined(variant, "keys only"), parameters, rotate_with(k, change), freedom});
}

void propose_rotation(Scene& scene, Proposals& out, const Rotation& rotation, Which which,
                      const std::string& variant, const Parameters& parameters) {
  const std::vector<Point> rotations = scene.ops("rope");
  const BadRun bad = [rotation](const Op& good, const Tensors& in, const Tensors&) {
    const std::int64_t n = good.run(in, {}).size(1);
    return rotation(split_heads(in[0].flatten(2), n), in[1].unsqueeze(1), in[2].unsqueeze(1));
  };
  const std::vector<Point> q = only(rotations, ":q_rope"), k = only(rotations, ":k_rope");
  if (which == Which::kBoth || which == Which::kEach) {
    propose_wrap(scene, out, rotations, bad, variant, parameters);
  }
  const bool each = which == Which::kEach && !q.empty() && !k.empty();
  if (which == Which::kQueries || each) {
    propose_wrap(scene, out, q, bad, joined(variant, each ? "queries only" : ""), parameters);
  }
  if (which == Which::kKeys || each) {
    propose_wrap(scene, out, k, bad, joined(variant, each ? "keys only" : ""), parameters);
  }
}

// ---- masks ------------------------------------------------------------------------------------

at::Tensor MaskParts::causal() const {
  at::Tensor seen = key <= query;
  if (window > 0) seen = seen.logical_and(key > query - window);
  return seen;
}

namespace {

MaskParts parts_of(const StepContext& c, std::int64_t window) {
  MaskParts parts;
  parts.context = &c;
  parts.window = window;
  const std::int64_t total = c.past + c.length();
  parts.query = at::arange(c.past, total, at::kLong).unsqueeze(1);
  parts.key = at::arange(total, at::kLong).unsqueeze(0);
  parts.real = c.inputs->attention_mask
                   ? from_int64(*c.inputs->attention_mask, {c.batch(), total}).ne(0).unsqueeze(1)
                   : at::ones({c.batch(), 1, total}, at::kBool);
  return parts;
}

// The window that a mask point stands for.
std::int64_t window_of(const ModelConfig& config, const Point& mask) {
  const auto& sliding = config.sliding_layer;
  const bool any = std::find(sliding.begin(), sliding.end(), true) != sliding.end();
  const bool all = any && std::find(sliding.begin(), sliding.end(), false) == sliding.end();
  return mask == "model:mask_sliding" || all ? config.sliding_window : 0;
}

}  // namespace

at::Tensor with_prefix(const MaskParts& parts, const at::Tensor& real_columns) {
  const StepContext& c = *parts.context;
  const at::Tensor real =
      real_columns.dim() == 2 ? real_columns.unsqueeze(0) : real_columns;  // [B or 1,S,L]
  const at::Tensor rows = real.expand({c.batch(), real.size(1), real.size(2)});
  const at::Tensor prefix = at::ones({c.batch(), real.size(1), c.config->prefix_tokens}, at::kBool);
  return at::cat({prefix, rows}, -1).unsqueeze(1).repeat({c.config->replicas, 1, 1, 1});
}

namespace {

std::vector<Point> self_attention_probs(const Scene& scene) {
  std::vector<Point> probs;
  for (const Point& point : scene.ops("probs")) {
    if (scene.net().find(point)->inputs[1].starts_with("model:mask_cross")) continue;
    probs.push_back(point);
  }
  return probs;
}

Edit masks_at(const std::vector<Point>& points, const MakeMask& make, EmptyRows empty) {
  return [make, points, empty](const Net& net, Overrides& overrides) {
    const StepContext c = net.context();
    wrap(points, [=](const Op& good, const Tensors& in, const Tensors&) {
      const at::Tensor mask = make(parts_of(c, window_of(*c.config, good.inputs[1])));
      return masked_softmax(in[0], mask, empty, c.types);
    })(net, overrides);
  };
}

// A wrong mask may leave queries without a key, and programs differ in what these give: NaN where
// hidden cells are minus infinity, the mean of all values where they are the lowest number.
std::vector<EmptyRows> empty_row_ways(const Scene& scene, const MakeMask& make) {
  const EmptyRows usual = scene.context().empty_rows;
  if (at::isnan(scene.observed()).any().item<bool>()) return {EmptyRows::kNan};
  const at::Tensor mask = make(parts_of(scene.context(), scene.config().sliding_window));
  if (mask.any(-1).all().item<bool>()) return {usual};
  return {usual, EmptyRows::kUniform};
}

std::string words_of(const Scene& scene, EmptyRows empty) {
  if (empty == scene.context().empty_rows) return "";
  return empty == EmptyRows::kNan ? "rows that see nothing are NaN"
                                  : "rows that see nothing are uniform";
}

}  // namespace

void propose_mask(Scene& scene, Proposals& out, const MakeMask& make, const std::string& variant,
                  const Parameters& parameters) {
  const std::vector<Point> probs = self_attention_probs(scene);
  if (probs.empty()) {
    const std::vector<Point> masks = scene.ops("mask");
    if (masks.empty()) return;
    const Edit edit = [make, masks](const Net& net, Overrides& overrides) {
      const StepContext c = net.context();
      wrap(masks, [=](const Op& good, const Tensors&, const Tensors&) {
        return make(parts_of(c, window_of(*c.config, good.point)));
      })(net, overrides);
    };
    out.push_back({variant, parameters, edit});
    return;
  }
  for (const EmptyRows empty : empty_row_ways(scene, make)) {
    for (const Scope& scope : scopes(probs)) {
      out.push_back({joined(joined(variant, words_of(scene, empty)), scope.words), parameters,
                     masks_at(scope.points, make, empty)});
    }
  }
}

Edit mask_edit(Scene& scene, const MakeMask& make) {
  return masks_at(self_attention_probs(scene), make, scene.context().empty_rows);
}

namespace {
Edit softmax_at(const std::vector<Point>& points, const Softmax& softmax) {
  return [softmax, points](const Net& net, Overrides& overrides) {
    const StepContext c = net.context();
    wrap(points, [=](const Op&, const Tensors& in, const Tensors&) {
      return softmax(c, in[0], in[1]).to(c.types.model);
    })(net, overrides);
  };
}
}  // namespace

Edit softmax_edit(Scene& scene, const Softmax& softmax) {
  return softmax_at(scene.ops("probs"), softmax);
}

void propose_softmax(Scene& scene, Proposals& out, const Softmax& softmax,
                     const std::string& variant, const Parameters& parameters, int freedom) {
  for (const Scope& scope : scopes(scene.ops("probs"))) {
    out.push_back(
        {joined(variant, scope.words), parameters, softmax_at(scope.points, softmax), freedom});
  }
}

// ---- heads ------------------------------------------------------------------------------------

void propose_head_map(Scene& scene, Proposals& out, const std::vector<std::int64_t>& kv_of_head,
                      const std::string& variant, const Parameters& parameters) {
  const std::vector<Point> scores = scene.ops("scores"), context = scene.ops("context");
  const at::Tensor map = from_int64(kv_of_head, {static_cast<std::int64_t>(kv_of_head.size())});
  const BadRun bad = [map](const Op& good, const Tensors& in, const Tensors& w) {
    return good.run({in[0], in[1].index_select(1, map)}, w);  // a kv head for each query head
  };
  std::vector<Point> all = scores;
  all.insert(all.end(), context.begin(), context.end());
  propose_wrap(scene, out, all, bad, variant, parameters);
  if (scores.empty() || context.empty()) return;
  propose_wrap(scene, out, scores, bad, joined(variant, "keys only"), parameters);
  propose_wrap(scene, out, context, bad, joined(variant, "values only"), parameters);
}

// ---- linear maps ------------------------------------------------------------------------------

std::vector<Point> linears(const Scene& scene, std::initializer_list<std::string_view> suffixes) {
  std::vector<Point> out;
  for (const Point& point : scene.ops("linear")) {
    for (const std::string_view suffix : suffixes) {
      if (point.ends_with(suffix)) out.push_back(point);
    }
  }
  return out;
}

std::vector<Point> row_parallel(const Scene& scene) {
  return linears(scene, {".self_attn.o_proj", ".mlp.down_proj", ".cross_replica_attn.o_proj"});
}

std::vector<Scope> module_groups(const std::vector<Point>& points) {
  std::vector<Scope> out = scopes(points);
  std::map<std::string, std::vector<Point>> by_module;
  for (const Point& point : points) by_module[module_words(point)].push_back(point);
  if (by_module.size() < 2) return out;
  for (auto& [module, of_module] : by_module) out.push_back({module + " alone", of_module});
  return out;
}

Edit linear_edit(std::vector<Point> points, BadLinear bad) {
  return wrap(std::move(points), [bad](const Op&, const Tensors& in, const Tensors& w) {
    const at::Tensor x = in[0];
    return bad(x, w[0].to(x.scalar_type()), w.size() > 1 ? w[1].to(x.scalar_type()) : at::Tensor());
  });
}

void propose_linear(Scene&, Proposals& out, const std::vector<Point>& points, const BadLinear& bad,
                    const std::string& variant, const Parameters& parameters, int freedom) {
  for (const Scope& scope : module_groups(points)) {
    out.push_back(
        {joined(variant, scope.words), parameters, linear_edit(scope.points, bad), freedom});
  }
}

}  // namespace ps::reference
