#include "reference/engine.h"

#include "core/sparse_attention.h"
#include "reference/bridge.h"

namespace ps::reference {

namespace {

bool is_cache(std::string_view point) {
  return point.ends_with(":k_cache") || point.ends_with(":v_cache") ||
         point.ends_with(":q_mean_cache");
}

void hand_out(Tap& tap, const std::string& point, const at::Tensor& value) {
  if (!tap.wants(point)) return;
  const at::Tensor whole = value.detach().contiguous();
  tap.take(point, view_of(whole));
}

// How many ops still read each point.
std::map<std::string, int> readers(const Net& net) {
  std::map<std::string, int> count;
  for (const Op& op : net.ops()) {
    for (const Point& input : op.inputs) ++count[input];
  }
  return count;
}

}  // namespace

Result<void> check_inputs(const StepInputs& inputs, const ModelConfig& config, std::int64_t past,
                          std::int64_t cached_batch) {
  const std::int64_t b = inputs.batch, s = inputs.length;
  const auto size = [](const auto& v) { return static_cast<std::int64_t>(v.size()); };
  if (b < 1 || s < 1) {
    return bad_input("input_ids", "an empty step", "at least one row and one token",
                     to_string(Shape{b, s}));
  }
  if (size(inputs.input_ids) != b * s) {
    return bad_input("input_ids", "wrong number of ids", std::to_string(b * s),
                     std::to_string(inputs.input_ids.size()));
  }
  for (std::int64_t i = 0; i < b * s; ++i) {
    const std::int64_t id = inputs.input_ids[static_cast<std::size_t>(i)];
    if (id < 0 || id >= config.vocab_size) {
      return bad_input("input_ids[" + std::to_string(i / s) + "," + std::to_string(i % s) + "]",
                       "token outside the vocabulary",
                       "0 to " + std::to_string(config.vocab_size - 1), std::to_string(id));
    }
  }
  if (inputs.attention_mask && size(*inputs.attention_mask) != b * (past + s)) {
    return bad_input("attention_mask", "wrong number of cells",
                     std::to_string(b) + " x (" + std::to_string(past) + " cached + " +
                         std::to_string(s) + " new)",
                     std::to_string(inputs.attention_mask->size()));
  }
  if (inputs.attention_mask) {
    for (const std::int64_t cell : *inputs.attention_mask) {
      if (cell == 0 || cell == 1) continue;
      return bad_input("attention_mask", "holds something else than real tokens and padding",
                       "1 or 0", std::to_string(cell));
    }
  }
  if (inputs.position_ids && size(*inputs.position_ids) != b * s) {
    return bad_input("position_ids", "wrong number of positions", std::to_string(b * s),
                     std::to_string(inputs.position_ids->size()));
  }
  if (inputs.visible && sparse_attention(config)) {
    return bad_input("visible", "block-sparse attention takes no mask from outside");
  }
  if (inputs.visible) {
    const auto& cross_kv = config.cross_kv_layer;
    if (std::find(cross_kv.begin(), cross_kv.end(), true) != cross_kv.end()) {
      return bad_input("visible", "a model with cross-KV layers takes no mask from outside");
    }
    const std::int64_t columns = config.prefix_tokens + past + s;
    const std::int64_t cells = size(*inputs.visible), plane = b * s * columns;
    if (cells != plane && cells != plane * config.heads) {
      return bad_input("visible", "wrong number of cells",
                       to_string(Shape{b, 1, s, columns}) + " or one a head",
                       std::to_string(inputs.visible->size()));
    }
  }
  if (cached_batch != 0 && cached_batch != b) {
    return bad_input("input_ids", "another batch size than the cache holds",
                     std::to_string(cached_batch), std::to_string(b));
  }
  return {};
}

ReferenceEngine::ReferenceEngine(const Model& model, const ReferenceOptions& options)
    : config_(model.config),
      checkpoint_(model.checkpoint),
      options_(options),
      types_(types_of(scalar_type(options.dtype))),
      weights_(model.checkpoint, types_.model,
               options.weights_through ? std::optional(scalar_type(*options.weights_through))
                                       : std::nullopt) {
  if (options.threads > 0) at::set_num_threads(options.threads);
}

StepContext ReferenceEngine::context(const StepInputs& inputs, std::int64_t past,
                                     bool cache_empty) const {
  StepContext c;
  c.config = &config_;
  c.inputs = &inputs;
  c.past = past;
  c.cache_empty = cache_empty;
  c.types = types_;
  c.empty_rows = options_.empty_rows;
  c.pinned_rope = options_.pinned_rope ? &*options_.pinned_rope : nullptr;
  return c;
}

at::Tensor ReferenceEngine::run(const Net& net, Weights& weights, Tap& tap, Cache& cache) const {
  std::map<std::string, int> readers_left = readers(net);
  std::map<std::string, at::Tensor> points;
  Cache next;
  at::Tensor last;
  for (const Op& op : net.ops()) {
    Tensors in, w;
    for (const Point& name : op.inputs) {
      in.push_back(is_past(name) ? cache.at(name.substr(5)) : points.at(name));
    }
    for (const std::string& name : op.weights) w.push_back(weights.get(name));
    last = op.run(in, w);
    hand_out(tap, op.point, last);
    if (is_cache(op.point)) next[op.point] = last;
    for (const Point& name : op.inputs) {
      if (--readers_left[name] == 0) points.erase(name);
    }
    if (readers_left[op.point] > 0) points[op.point] = last;
  }
  cache = std::move(next);
  return last;
}

Result<void> ReferenceEngine::forward(const StepInputs& inputs, Tap& tap) {
  PS_TRY_VOID(check_inputs(inputs, config_, past_, batch_));
  try {
    const at::NoGradGuard no_grad;
    Net net(context(inputs, past_, cache_.empty()));
    build(net);
    run(net, weights_, tap, cache_);
  } catch (const std::exception& e) {
    return torch_error("reference forward", e);
  }
  past_ += inputs.length;
  batch_ = inputs.batch;
  return {};
}

void ReferenceEngine::reset() {
  cache_.clear();
  earlier_.clear();
  past_ = 0;
  batch_ = 0;
}

// Row p*B + b of every cache becomes row p*B + beam_idx[b]: beams are of samples, so each replica
// moves its own rows, prefix included.
void ReferenceEngine::reorder(const std::vector<std::int64_t>& beam_idx) {
  const auto beams = static_cast<std::int64_t>(beam_idx.size());
  const at::Tensor within = from_int64(beam_idx, {beams});
  for (auto& [name, value] : cache_) {
    const at::Tensor base = at::arange(config_.replicas, at::kLong).unsqueeze(1) * batch_;
    value = value.index_select(0, (base + within).flatten());
  }
  batch_ = beams;
}

Result<void> ReferenceEngine::reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) {
  if (cache_.empty()) return bad_input("reorder_cache", "there is no cache to reorder");
  for (const std::int64_t b : beam_idx) {
    if (b < 0 || b >= batch_) {
      return bad_input("beam_idx", "a beam outside the batch", "0 to " + std::to_string(batch_ - 1),
                       std::to_string(b));
    }
  }
  try {
    const at::NoGradGuard no_grad;
    reorder(beam_idx);
    for (const auto& [name, value] : cache_) hand_out(tap, name, value);
  } catch (const std::exception& e) {
    return torch_error("reference reorder_cache", e);
  }
  return {};
}

Result<std::vector<OpInfo>> ReferenceEngine::ops(const StepInputs& inputs, std::int64_t past) {
  PS_TRY_VOID(check_inputs(inputs, config_, past, 0));
  Net net(context(inputs, past, past == 0));
  build(net);
  std::vector<OpInfo> out;
  for (const Op& op : net.ops()) out.push_back({op.point, op.kind, op.inputs, op.weights});
  return out;
}

Result<Tensor> ReferenceEngine::replay(const StepInputs& inputs, std::int64_t past,
                                       std::string_view point, const PointLookup& lookup) {
  PS_TRY_VOID(check_inputs(inputs, config_, past, 0));
  try {
    const at::NoGradGuard no_grad;
    Net net(context(inputs, past, past == 0));
    build(net);
    const Op* op = net.find(point);
    if (op == nullptr) {
      return bad_input(std::string(point), "no op of this model writes such a point");
    }
    Tensors in, w;
    for (const Point& name : op->inputs) {
      const std::optional<TensorView> value = lookup(name);
      if (!value) {
        return bad_input(op->point, "cannot be replayed without " + name);
      }
      const std::string plain = is_past(name) ? name.substr(5) : name;
      in.push_back(borrow(*value).to(point_type(plain, types_)));
    }
    for (const std::string& name : op->weights) w.push_back(weights_.get(name));
    return Tensor::copy_of(view_of(op->run(in, w).contiguous()));
  } catch (const std::exception& e) {
    // Inputs of a shape that the op cannot take come from the trace, not from the machine.
    Error error = torch_error(std::string(point), e);
    if (dynamic_cast<const std::bad_alloc*>(&e) == nullptr) error.kind = Error::Kind::kInput;
    return error;
  }
}

}  // namespace ps::reference
