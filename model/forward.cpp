#include "model/forward.h"

#include "core/ranks.h"
#include "model/device_sums.h"

namespace ps {

Forward::Forward(const ModelState& state, Arena& arena, KvCache& cache, KvCache* query_means,
                 Tap& tap, const PreparedInputs& inputs)
    : state_(state),
      config_(state.config()),
      backend_(*state.backend),
      arena_(arena),
      cache_(cache),
      query_means_(query_means),
      tap_(tap),
      inputs_(inputs),
      batch_(inputs.batch),
      tokens_(inputs.tokens),
      rows_(config_.replicas * inputs.batch) {}

Array Forward::run(Logits which) {
  for (Array& hidden : hidden_) hidden = take({rows_, tokens_, config_.hidden_size});
  embed();
  rope_tables();
  replica_tables();
  prepare_masks();
  prepare_sparse();
  Array x = hidden_[0];
  for (std::int64_t i = 0; i < config_.layers; ++i) {
    const Arena::Scope scope(arena_);
    x = layer(i, x);
  }
  Array y = aggregate(norm("model.norm", x, state_.weights.norm));  // [batch, token, hidden]
  if (which == Logits::kLast) y = y.narrowed(1, tokens_ - 1, 1);
  return linear("lm_head", y, state_.weights.head);
}

// Row p*batch + i is sample i: the first `batch` rows are the embedding itself.
void Forward::embed() {
  const Array ids = arena_.take(DType::kI64, {batch_, tokens_});
  backend_.upload(inputs_.ids.data(), ids);
  backend_.run(Op::embed, {ids, state_.weights.embedding, hidden_[0]}, {});
  emit("model.embed_tokens", hidden_[0].narrowed(0, 0, batch_));
  emit("model:replicated", hidden_[0]);
}

void Forward::rope_tables() {
  const Array positions = arena_.take(DType::kI64, {inputs_.position_rows, tokens_});
  backend_.upload(inputs_.positions.data(), positions);
  cosine_ = take({inputs_.position_rows, tokens_, config_.head_dim});
  sine_ = take({inputs_.position_rows, tokens_, config_.head_dim});
  emit("model.rotary_emb:inv_freq", state_.inv_freq);
  backend_.run(Op::rope_tables, {positions, state_.inv_freq, cosine_, sine_}, {state_.rope_factor});
  emit("model.rotary_emb:cos", cosine_);
  emit("model.rotary_emb:sin", sine_);
}

Array Forward::layer(std::int64_t index, const Array& input) {
  const auto i = static_cast<std::size_t>(index);
  const LayerWeights& weights = state_.weights.layers[i];
  const std::string name = "model.layers." + std::to_string(index);
  Array x = input;
  if (config_.cross_layer[i]) {
    const Array sum = other_hidden(x);
    add(x, cross_replica(index, x), sum);
    emit(name + ":cross_residual", sum);
    x = sum;
  }
  const Array attended =
      self_attention(index, norm(name + ".input_layernorm", x, weights.input_norm));
  const Array residual = other_hidden(x);
  add(x, attended, residual);
  emit(name + ":attn_residual", residual, {x, attended});

  const Array fed =
      mlp(index, norm(name + ".post_attention_layernorm", residual, weights.post_norm));
  const Array out = other_hidden(residual);
  add(residual, fed, out);
  emit(name, out, {residual, fed});
  return out;
}

Array Forward::mlp(std::int64_t index, const Array& x) {
  const LayerWeights& weights = state_.weights.layers[static_cast<std::size_t>(index)];
  const std::string name = "model.layers." + std::to_string(index) + ".mlp";
  const Array gate = linear(name + ".gate_proj", x, weights.gate);
  const Array up = linear(name + ".up_proj", x, weights.up);
  const std::int64_t rows = rows_ * tokens_, width = gate.size(2);
  const Array act = take({rows_, tokens_, width});
  backend_.run(
      Op::gated_activate,
      {gate.reshaped({rows, width}), up.reshaped({rows, width}), act.reshaped({rows, width})},
      {static_cast<double>(config_.activation)});
  emit(name + ":act", act);
  return row_linear(name + ".down_proj", act, weights.down);
}

// One state for each token out of the replicas' (parscale.md 3.8).
Array Forward::aggregate(const Array& y) {
  const std::int64_t replicas = config_.replicas, hidden = config_.hidden_size,
                     rows = batch_ * tokens_;
  Array out = y;
  if (config_.aggregates()) {
    const Array by_replica = y.reshaped({replicas, rows, hidden});
    const Array z = take({batch_, tokens_, hidden * replicas});
    backend_.run(Op::aggregate_input, {by_replica, z.reshaped({rows, hidden, replicas})}, {});
    emit("model:aggregate_input", z);
    const Array first = linear("model.aggregate_layer.0", z, state_.weights.aggregate_0);
    const Array act = take({batch_, tokens_, first.size(2)});
    backend_.run(Op::activate,
                 {first.reshaped({rows, first.size(2)}), act.reshaped({rows, first.size(2)})},
                 {static_cast<double>(Activation::kSilu)});  // SiLU whatever hidden_act says
    const Array scores = linear("model.aggregate_layer.2", act, state_.weights.aggregate_2);
    const Array weights = arena_.take(DType::kF32, {batch_, tokens_, replicas});
    backend_.run(Op::aggregate_weights,
                 {scores.reshaped({rows, replicas}), weights.reshaped({rows, replicas})},
                 {config_.attn_smooth});
    emit("model:aggregate_weights", weights);
    out = take({batch_, tokens_, hidden});
    backend_.run(Op::weighted_sum,
                 {by_replica, weights.reshaped({rows, replicas}), out.reshaped({rows, hidden})},
                 {});
  }
  emit("model:aggregated", out);
  return out;
}

Array Forward::norm(const std::string& point, const Array& x, const Array& weight) {
  const std::int64_t width = weight.size(0), rows = x.count() / width;
  const Array out = x.ndim() == 4 ? take({x.size(0), x.size(1), x.size(2), x.size(3)})
                                  : take({x.size(0), x.size(1), x.size(2)});
  backend_.run(Op::rms_norm, {x.reshaped({rows, width}), weight, out.reshaped({rows, width})},
               {config_.rms_norm_eps});
  emit(point, out, {x, weight});
  return out;
}

// x [row, token, in]; rows may stand apart when there is one token.
Array Forward::linear(const std::string& point, const Array& x, const Linear& weights) {
  const std::int64_t rows = x.size(0) * x.size(1);
  const Array flat =
      x.contiguous() ? x.reshaped({rows, x.size(2)}) : x.permuted({1, 0, 2}).dropped_first();
  const Array out = take({x.size(0), x.size(1), weights.weight.size(0)});
  const Array flat_out = out.reshaped({rows, weights.weight.size(0)});
  const bool bias = static_cast<bool>(weights.bias);
  backend_.gemm(plan_linear(flat, weights.weight, bias, flat_out), weights.weight, flat,
                weights.bias, flat_out);
  emit(point, out, {x, weights.weight, weights.bias});
  return out;
}

// A map whose input features are dealt over the ranks: each has a part of the sum. The bias is in
// it once.
Array Forward::row_linear(const std::string& point, const Array& x, const Linear& weights) {
  if (state_.collectives == nullptr) return linear(point, x, weights);
  Linear own = weights;
  if (state_.collectives->rank() > 0) own.bias = {};
  const Array sum = linear(point + ":partial", x, own);
  if (state_.joined != nullptr) {
    const Result<void> agreed =
        state_.joined->announce({"all_reduce", sum.shape(), sum.dtype(), point});
    if (agreed.ok()) {
      dynamic_cast<DeviceSums&>(backend_).all_reduce(sum);
    } else {
      backend_.fail(agreed.error());
    }
    emit(point, sum);
    return sum;
  }
  backend_.finish();
  Tensor host(sum.dtype(), {sum.size(0), sum.size(1), sum.size(2)});
  backend_.download(sum, host.bytes().data());
  // Also after an error: the other ranks are waiting here.
  const Result<void> reduced = state_.collectives->all_reduce(host, point);
  if (!reduced.ok()) backend_.fail(reduced.error());
  backend_.upload(host.bytes().data(), sum);
  emit(point, sum);
  return sum;
}

void Forward::planted(const std::string& point, const Array& value,
                      std::initializer_list<Array> made_from) {
  if (!state_.plant || !state_.plant->after) return;
  points_.insert_or_assign(point, value);
  state_.plant->after({config_, inputs_, point, value, made_from, points_});
}

void Forward::add(const Array& a, const Array& b, const Array& out) {
  const std::int64_t rows = rows_ * tokens_, width = config_.hidden_size;
  backend_.run(Op::add,
               {a.reshaped({rows, width}), b.reshaped({rows, width}), out.reshaped({rows, width})},
               {});
}

}  // namespace ps
