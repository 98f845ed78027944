#include "model/transformer.h"

#include "model/forward.h"

namespace ps {

void emit(Backend& backend, Arena& arena, Tap& tap, const std::string& point, const Array& value) {
  if (!tap.wants(point)) return;
  if (value.contiguous()) {
    backend.tap(point, value, tap);
    return;
  }
  const Array packed =
      arena.take(value.dtype(), {value.size(0), value.size(1), value.size(2), value.size(3)});
  backend.run(Op::copy_rows, {value, packed}, {1});
  backend.tap(point, packed, tap);
}

Transformer::Transformer(ModelState state)
    : state_(std::move(state)),
      arena_(*state_.backend),
      cache_(std::make_unique<KvCache>(*state_.backend, state_.options.dtype)) {
  if (state_.sparse && state_.sparse->attention.walks()) {
    query_means_ = std::make_unique<KvCache>(*state_.backend, DType::kF32);
  }
}

Transformer::~Transformer() {
  for (void* memory : state_.owned) state_.backend->release(memory);
}

Result<void> Transformer::forward(const StepInputs& inputs, Tap& tap) {
  return step(inputs, tap, Logits::kAll);
}

Result<void> Transformer::step(const StepInputs& inputs, Tap& tap, Logits which) {
  if (state_.sparse && inputs.visible) {
    return bad_input("visible", "block-sparse attention takes no mask from outside");
  }
  PS_TRY(PreparedInputs prepared, prepare_inputs(inputs, state_.config(), past_, batch_));
  if (state_.plant && state_.plant->inputs) state_.plant->inputs(prepared);
  arena_.reset();
  if (cache_->empty()) {
    std::vector<KvCache::LayerShape> shapes;
    for (std::size_t i = 0; i < state_.weights.layers.size(); ++i) {
      // Cross-KV keeps no prefix, and as literally written it keeps nothing.
      const bool cross_kv = state_.config().cross_kv_layer[i];
      KvCache::LayerShape shape{.kv_heads = state_.config().kv_heads,
                                .dim = state_.config().head_dim};
      if (cross_kv && !state_.config().cross_kv_causal) shape.kv_heads = 0;
      if (!cross_kv) {
        shape.prefix_k = state_.weights.layers[i].self.prefix_k;
        shape.prefix_v = state_.weights.layers[i].self.prefix_v;
      }
      shapes.push_back(shape);
    }
    cache_->start(state_.config().replicas, prepared.batch, shapes);
    if (query_means_) {
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        const bool sparse = state_.sparse->attention.sparse(static_cast<std::int64_t>(i));
        shapes[i] = {
            .kv_heads = sparse ? 1 : 0, .dim = state_.config().head_dim, .keys_only = true};
      }
      query_means_->start(state_.config().replicas, prepared.batch, shapes);
    }
  }
  cache_->reserve(prepared.keys);
  if (query_means_) query_means_->reserve(prepared.keys);
  Forward pass(state_, arena_, *cache_, query_means_.get(), tap, prepared);
  logits_ = pass.run(which);
  state_.backend->finish();
  if (state_.backend->error()) {
    reset();
    return *state_.backend->error();
  }
  past_ = prepared.keys;
  batch_ = prepared.batch;
  empty_rows_ += prepared.empty_rows;
  return {};
}

Result<void> Transformer::reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) {
  if (past_ == 0) return bad_input("beam_idx", "there is no cache to reorder");
  if (static_cast<std::int64_t>(beam_idx.size()) != batch_) {
    return bad_input("beam_idx", "one entry for each sample", std::to_string(batch_),
                     std::to_string(beam_idx.size()));
  }
  std::vector<std::int64_t> rows;
  for (std::int64_t p = 0; p < state_.config().replicas; ++p) {
    for (const std::int64_t from : beam_idx) {
      if (from < 0 || from >= batch_) {
        return bad_input("beam_idx", "a sample that is not there",
                         "0 .. " + std::to_string(batch_ - 1), std::to_string(from));
      }
      rows.push_back(p * batch_ + from);
    }
  }
  if (state_.plant && state_.plant->reorder) state_.plant->reorder(rows, batch_);
  cache_->reorder(rows);
  if (query_means_) query_means_->reorder(rows);
  arena_.reset();
  for (std::size_t i = 0; i < state_.weights.layers.size(); ++i) {
    if (state_.config().cross_kv_layer[i] && !state_.config().cross_kv_causal) continue;
    const std::string name = "model.layers." + std::to_string(i) + ".self_attn";
    emit(*state_.backend, arena_, tap, name + ":k_cache", cache_->keys(i));
    emit(*state_.backend, arena_, tap, name + ":v_cache", cache_->values(i));
    if (query_means_ && state_.sparse->attention.sparse(static_cast<std::int64_t>(i))) {
      emit(*state_.backend, arena_, tap, name + ":q_mean_cache", query_means_->keys(i));
    }
  }
  state_.backend->finish();
  if (state_.backend->error()) return *state_.backend->error();
  return {};
}

void Transformer::reset() {
  cache_->clear();
  if (query_means_) query_means_->clear();
  past_ = 0;
  batch_ = 0;
}

CandidateStats Transformer::stats() const {
  return {.device = state_.backend->describe(),
          .empty_rows = empty_rows_,
          .activation_bytes = arena_.peak_bytes()};
}

}  // namespace ps
