#include "model/sparse_layer.h"

#include <algorithm>

#include "model/forward.h"

namespace ps {

namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// [heads, a, b] as f32; turned: [heads, b, a].
Array loaded(const Tensor& t, bool turned, Backend& backend, std::vector<void*>& owned) {
  const Shape& s = t.shape();
  const bool matrix = s.size() == 2;
  const std::int64_t heads = matrix ? 1 : s[0], a = s[s.size() - 2], b = s[s.size() - 1];
  std::vector<float> values(at(heads * a * b));
  for (std::int64_t i = 0; i < heads * a * b; ++i) {
    const std::int64_t head = i / (a * b), row = i / b % a, col = i % b;
    const std::int64_t to = turned ? (head * b + col) * a + row : i;
    values[at(to)] = static_cast<float>(value_at(t.view(), i));
  }
  void* memory =
      backend.allocate(static_cast<std::int64_t>(values.size()) * 4, "a sparse projection");
  if (memory == nullptr) return {};
  owned.push_back(memory);
  const std::int64_t rows = turned ? b : a, cols = turned ? a : b;
  const Array out = matrix ? Array(memory, DType::kF32, {rows, cols})
                           : Array(memory, DType::kF32, {heads, rows, cols});
  backend.upload(values.data(), out);
  return out;
}

}  // namespace

Result<std::optional<SparseModel>> load_sparse_model(const Model& model, Backend& backend,
                                                     std::vector<void*>& owned) {
  PS_TRY(std::optional<SparseAttention> attention, read_sparse_attention(model.config));
  if (!attention) return std::optional<SparseModel>();
  SparseModel out;
  out.attention = std::move(*attention);
  const auto layers = at(model.config.layers);
  out.gate_q.resize(layers), out.gate_k.resize(layers);
  for (std::int64_t l = out.attention.config.skip; l < model.config.layers; ++l) {
    PS_TRY(const SparseWeights weights, sparse_weights(out.attention, model.checkpoint.get(), l));
    if (out.attention.walks()) {  // one for all layers
      out.sketch = loaded(weights.sketch, true, backend, owned);
      break;
    }
    out.gate_q[at(l)] = loaded(weights.gate_wq, false, backend, owned);
    out.gate_k[at(l)] = loaded(weights.gate_wk, true, backend, owned);
  }
  return std::optional(std::move(out));
}

bool Forward::sparse_layer(std::int64_t index) const {
  return state_.sparse && state_.sparse->attention.sparse(index);
}

// A block pair has an allowed pair of tokens where both have a real token and it is not later:
// causality and padding are all there is.
void Forward::prepare_sparse() {
  if (!state_.sparse) return;
  const SparseConfig& config = state_.sparse->attention.config;
  SparseStep& s = sparse_;
  s.blocks = config.blocks(inputs_.keys);
  s.first = inputs_.past / config.block;
  s.rows = s.blocks - s.first;
  s.decode = inputs_.past > 0 && tokens_ == 1;
  kernels_.emplace(config, backend_, arena_);
  std::vector<std::uint8_t> keys, queries, fresh;
  for (std::int64_t row = 0; row < rows_; ++row) {
    const auto valid = inputs_.key_valid.begin() + row % batch_ * inputs_.keys;
    keys.insert(keys.end(), valid, valid + inputs_.keys);
    fresh.insert(fresh.end(), valid + inputs_.past, valid + inputs_.keys);
    queries.insert(queries.end(), valid, valid + inputs_.keys);
    if (s.decode) {  // the newest queries of a block speak for it
      const auto line = queries.end() - inputs_.keys;
      const std::int64_t from =
          std::max(s.first * config.block, inputs_.keys - config.decode_window);
      std::fill(line + s.first * config.block, line + from, 0);
    }
    std::vector<bool> real(at(s.blocks), false);
    for (std::int64_t t = 0; t < inputs_.keys; ++t) {
      if (valid[t] != 0) real[at(t / config.block)] = true;
    }
    for (std::int64_t i = 0; i < s.blocks; ++i) {
      for (std::int64_t j = 0; j < s.blocks; ++j) {
        s.open.push_back(j <= i && real[at(i)] && real[at(j)] ? 1 : 0);
      }
    }
  }
  s.allowed = kernels_->uploaded(DType::kBool, {rows_, s.blocks, s.blocks}, s.open.data());
  s.key_valid = kernels_->uploaded(DType::kBool, {rows_, inputs_.keys}, keys.data());
  s.query_valid = kernels_->uploaded(DType::kBool, {rows_, inputs_.keys}, queries.data());
  s.fresh_valid = kernels_->uploaded(DType::kBool, {rows_, tokens_}, fresh.data());
  const std::vector<std::uint8_t> ones(at(rows_ * tokens_), 1);
  s.ones = kernels_->uploaded(DType::kBool, {rows_, tokens_}, ones.data());
  emit("model:block_allowed", s.allowed.narrowed(0, 0, batch_));
  s.transitions.resize(at(config_.layers)), s.walks.resize(at(config_.layers));
  for (std::int64_t l = config.skip; l < config_.layers && state_.sparse->attention.walks(); ++l) {
    for (std::vector<Array>* kept : {&s.transitions, &s.walks}) {
      (*kept)[at(l)] = arena_.take(DType::kF32, {rows_, s.blocks, s.blocks});
    }
  }
}

// The blocks of keys that each block of queries attends to, by a walk over the layers so far.
BlockLists Forward::walk_lists(std::int64_t index, const std::string& name, const Array& q,
                               const Array& keys) {
  const SparseConfig& config = state_.sparse->attention.config;
  SparseStep& s = sparse_;
  const std::int64_t dim = config_.head_dim, n = s.blocks;
  const Array means = arena_.take(DType::kF32, {rows_, tokens_, dim});
  backend_.run(Op::block_pool, {q, s.ones, means}, {1});  // over heads, token by token
  const Array one_head = means.reshaped({rows_, 1, tokens_, dim});
  query_means_->append(at(index), one_head, one_head.narrowed(1, 0, 0));
  const Array history = query_means_->keys(at(index));  // [row, 1, key, dim]
  emit(name + ":q_mean_cache", history);
  const Array q_blocks = kernels_->means(history, s.query_valid);
  emit(name + ":query_blocks", q_blocks);
  const Array k_blocks =
      kernels_->means(keys.narrowed(2, config_.prefix_tokens, inputs_.keys), s.key_valid);
  emit(name + ":key_blocks", k_blocks);
  const Array scores = kernels_->sketch_scores(q_blocks, k_blocks, state_.sparse->sketch);
  emit(name + ":block_scores", scores);
  const auto keep = [&](const Array& from, const Array& to) {
    backend_.run(Op::copy_rows, {from.reshaped({1, rows_, n, n}), to.reshaped({1, rows_, n, n})},
                 {1});
  };
  keep(kernels_->log_transition(scores, s.allowed), s.transitions[at(index)]);
  emit(name + ":block_transition", s.transitions[at(index)]);
  std::vector<Array> steps;
  const bool goes_on = config.depth == 0 && index > config.skip;
  for (std::int64_t l = std::max(config.skip, index - config.depth + 1);
       config.depth > 0 && l < index; ++l) {
    steps.push_back(s.transitions[at(l)]);
  }
  steps.push_back(s.transitions[at(index)]);
  keep(kernels_->log_walk(goes_on ? &s.walks[at(index - 1)] : nullptr, steps, s.allowed),
       s.walks[at(index)]);
  emit(name + ":block_walk", s.walks[at(index)]);
  std::vector<std::uint8_t> open;
  for (std::int64_t row = 0; row < rows_; ++row) {
    const auto line = s.open.begin() + (row * n + s.first) * n;
    open.insert(open.end(), line, line + s.rows * n);
  }
  const Array taken = kernels_->pick_walk(s.walks[at(index)].narrowed(1, s.first, s.rows),
                                          s.allowed.narrowed(1, s.first, s.rows), open, s.first);
  emit(name + ":block_mask", taken.reshaped({rows_, 1, s.rows, n}));
  return SparseKernels::lists_of(kernels_->downloaded<std::uint8_t>(taken), rows_, 1, s.rows, n);
}

// The same by a gate: each head for itself, from this step's queries.
BlockLists Forward::gate_lists(std::int64_t index, const std::string& name, const Array& q,
                               const Array& keys) {
  const SparseModel& sparse = *state_.sparse;
  SparseStep& s = sparse_;
  const std::int64_t n = s.blocks, heads = config_.heads;
  const Array pq = kernels_->pooled(q, s.fresh_valid, inputs_.past);
  emit(name + ":query_pools", pq);
  const Array pk =
      kernels_->pooled(keys.narrowed(2, config_.prefix_tokens, inputs_.keys), s.key_valid, 0);
  emit(name + ":key_pools", pk);
  std::vector<std::uint8_t> open;  // [row, head, query block, block]
  for (std::int64_t line = 0; line < rows_ * heads; ++line) {
    const auto from = s.open.begin() + (line / heads * n + s.first) * n;
    open.insert(open.end(), from, from + s.rows * n);
  }
  const Array allowed = kernels_->uploaded(DType::kBool, {rows_, heads, s.rows, n}, open.data());
  const Array scores =
      kernels_->gate_scores(pq, pk, sparse.gate_q[at(index)], sparse.gate_k[at(index)], allowed);
  emit(name + ":block_scores", scores);
  const Array taken =
      kernels_->pick_gate(scores.reshaped({rows_ * heads, s.rows, n}),
                          allowed.reshaped({rows_ * heads, s.rows, n}), open, s.first, s.decode);
  emit(name + ":block_mask", taken.reshaped({rows_, heads, s.rows, n}));
  return SparseKernels::lists_of(kernels_->downloaded<std::uint8_t>(taken), rows_, heads, s.rows,
                                 n);
}

// Prefix slots belong to no block: every query attends to them.
void Forward::attend_blocks(std::int64_t index, const std::string& name, const Array& q,
                            const Array& keys, const Array& values, const Array& context) {
  const bool walks = state_.sparse->attention.walks();
  const BlockLists lists =
      walks ? walk_lists(index, name, q, keys) : gate_lists(index, name, q, keys);
  const std::int64_t size = state_.sparse->attention.config.block;
  SparseKernels::Attended a;
  a.q = q, a.k = keys, a.v = values, a.out = context;
  a.prefix = config_.prefix_tokens;
  a.past = inputs_.past;
  a.lists = &lists;
  a.mask = [&](std::int64_t begin, std::int64_t count) { return mask_block(full_, begin, count); };
  a.tile = [&](std::int64_t row, std::int64_t, std::int64_t begin, std::int64_t count,
               std::int64_t j) -> std::uint8_t {
    if (state_.plant) return 0;  // the mask may have been made wrong on purpose: read it
    const std::int64_t from = j * size, to = std::min(from + size, inputs_.keys);
    const auto valid = inputs_.key_valid.begin() + row % batch_ * inputs_.keys;
    const auto real = std::count(valid + from, valid + to, 1);
    if (real == 0 || from > inputs_.past + begin + count - 1) return 2;
    return real == size && from + size - 1 <= inputs_.past + begin ? 1 : 0;
  };
  const bool shown = tap_.wants(name + ":probs");
  if (shown) a.probs = take({rows_, config_.heads, tokens_, keys.size(2)});
  kernels_->attend(a);
  if (shown) hand_out(name + ":probs", a.probs);
}

}  // namespace ps
