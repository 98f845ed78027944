#include "model/sparse.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "model/candidate.h"

namespace ps {

namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::span<const std::byte> bytes_of(const Tensor& t) { return t.view().bytes; }

// Values of any floating type, rounded to the run's.
Tensor converted(const TensorView& view, DType dtype) {
  if (view.dtype == dtype) return Tensor::copy_of(view);
  Tensor out(dtype, view.shape);
  for (std::int64_t i = 0; i < view.count(); ++i) {
    const auto value = static_cast<float>(value_at(view, i));
    if (dtype == DType::kF32) out.as<float>()[at(i)] = value;
    if (dtype == DType::kBF16) out.as<std::uint16_t>()[at(i)] = float_to_bf16(value);
    if (dtype == DType::kF16) out.as<std::uint16_t>()[at(i)] = float_to_f16(value);
  }
  return out;
}

// b's tokens behind a's: [B,heads,n,D].
Tensor joined(const Tensor& a, const Tensor& b) {
  const Shape &s = a.shape(), &t = b.shape();
  Tensor out(a.dtype(), {s[0], s[1], s[2] + t[2], s[3]});
  const std::int64_t cell = s[3] * size_of(a.dtype());
  const std::int64_t x = s[2] * cell, y = t[2] * cell;
  for (std::int64_t r = 0; r < s[0] * s[1]; ++r) {
    const auto to = out.bytes().begin() + r * (x + y);
    std::copy_n(bytes_of(a).begin() + r * x, x, to);
    std::copy_n(bytes_of(b).begin() + r * y, y, to + x);
  }
  return out;
}

// Zeros for tokens that came without a query.
Tensor with_past(const Tensor& q, std::int64_t past) {
  if (past == 0) return q;
  return joined(Tensor(q.dtype(), {q.shape()[0], q.shape()[1], past, q.shape()[3]}), q);
}

std::vector<float> floats(const TensorView& view) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < view.count(); ++i) {
    out.push_back(static_cast<float>(value_at(view, i)));
  }
  return out;
}

// [heads, a, b] as [heads, b, a].
std::vector<float> turned(const TensorView& view) {
  const std::int64_t a = view.shape[1], b = view.shape[2];
  std::vector<float> out(at(view.count()));
  for (std::int64_t i = 0; i < view.count(); ++i) {
    const std::int64_t head = i / (a * b), row = i / b % a, col = i % b;
    out[at((head * b + col) * a + row)] = static_cast<float>(value_at(view, i));
  }
  return out;
}

Tensor tensor_of(Shape shape, const std::vector<float>& x) {
  return Tensor::of<float>(DType::kF32, std::move(shape), x);
}

}  // namespace

SparseCandidate::SparseCandidate(const SparseConfig& config, const SparseWeights& weights,
                                 DType dtype, std::unique_ptr<Backend> backend)
    : config_(config),
      dtype_(dtype),
      backend_(std::move(backend)),
      arena_(*backend_),
      kernels_(config_, *backend_, arena_) {
  if (!walks()) {
    const Shape& shape = weights.gate_wq.shape();  // [H, C, g]
    gate_channels_ = shape[1], gate_dim_ = shape[2];
    gate_q_ = floats(weights.gate_wq.view());
    gate_k_ = turned(weights.gate_wk.view());
    return;
  }
  // [D,r] as the weight of a linear op: [r,D].
  const Tensor& sketch = weights.sketch;
  sketch_ = turned({sketch.dtype(), {1, config.head_dim, config.sketch}, sketch.view().bytes});
}

Array SparseCandidate::uploaded(const Tensor& t) {
  const Shape& s = t.shape();
  return kernels_.uploaded(t.dtype(), {s[0], s[1], s[2], s[3]}, bytes_of(t).data());
}

// Boolean or additive, 3-D or 4-D; joined with causality.
Result<SparseCandidate::Mask> SparseCandidate::mask_of(const SparseInputs& in,
                                                       std::int64_t past) const {
  const std::int64_t batch = in.q.shape[0], queries = in.q.shape[2], keys = past + queries;
  Mask out;
  out.queries = queries;
  if (in.mask) {
    const Shape& s = in.mask->shape;
    if (s.size() == 4) out.heads = s[1];
    const Shape three = {batch, queries, keys}, four = {batch, out.heads, queries, keys};
    if ((s != three && s != four) || (out.heads != 1 && out.heads != config_.heads)) {
      return bad_input("mask", "wrong shape", "[B,Nq,Nk] or [B,1|H,Nq,Nk]", to_string(s));
    }
  }
  out.cells.assign(at(batch * out.heads * queries * keys), 1);
  const bool additive = in.mask && is_floating(in.mask->dtype);
  // Half of float32's lowest; a 16-bit mask's own lowest numbers differ.
  double limit = -1.7e38;
  if (in.mask && in.mask->dtype == DType::kF16) limit = -32752;
  if (in.mask && in.mask->dtype == DType::kF64) limit = -std::numeric_limits<double>::max() / 2;
  for (std::size_t i = 0; i < out.cells.size(); ++i) {
    const auto cell = static_cast<std::int64_t>(i);
    const std::int64_t q = past + cell / keys % queries, k = cell % keys;
    bool allowed = !config_.causal || k <= q;
    if (in.mask && allowed) {
      const double m = value_at(*in.mask, cell);
      if (std::isnan(m)) return bad_input("mask", "holds NaN");
      allowed = additive ? m > limit : m != 0;
    }
    out.cells[i] = allowed ? 1 : 0;
  }
  return out;
}

Result<SparseLayer> SparseCandidate::prefill(std::int64_t layer, const SparseInputs& in) {
  const std::int64_t batch = in.q.shape[0], keys = in.k.shape[2], past = keys - in.q.shape[2];
  if (past < 0 || in.q.shape[1] != config_.heads || in.k.shape[1] != config_.kv_heads) {
    return bad_input("q, k, v", "shapes that do not fit the config", "",
                     to_string(in.q.shape) + ", " + to_string(in.k.shape));
  }
  if (layer > config_.skip && !states_.contains(layer - 1)) {
    return bad_input("layer " + std::to_string(layer), "layers must come in order");
  }
  PS_TRY(const Mask mask, mask_of(in, past));
  State& s = states_[layer];
  s = State();
  s.batch = batch, s.tokens = keys, s.mask_heads = mask.heads;
  s.q = with_past(converted(in.q, dtype_), past);
  s.k = converted(in.k, dtype_);
  s.v = converted(in.v, dtype_);
  s.head_valid.assign(at(batch * mask.heads * keys), 0);
  s.key_valid.assign(at(batch * keys), 0);
  s.query_valid.assign(at(batch * keys), 0);
  const std::int64_t n = config_.blocks(keys);
  s.allowed.assign(at(batch * n * n), 0);
  const std::int64_t queries = in.q.shape[2];
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < mask.heads; ++h) {
      for (std::int64_t i = 0; i < queries; ++i) {
        const std::uint8_t* row = mask.cells.data() + ((b * mask.heads + h) * queries + i) * keys;
        std::uint8_t* tiles = s.allowed.data() + (b * n + (past + i) / config_.block) * n;
        for (std::int64_t j = 0; j < keys; ++j) {
          if (row[j] == 0) continue;
          s.head_valid[at((b * mask.heads + h) * keys + j)] = 1;
          s.key_valid[at(b * keys + j)] = 1;
          s.query_valid[at(b * keys + past + i)] = 1;
          tiles[j / config_.block] = 1;
        }
      }
    }
  }
  return run(layer, s, mask, past, false);
}

Result<SparseLayer> SparseCandidate::decode(std::int64_t layer, const SparseInputs& in) {
  const auto found = states_.find(layer);
  if (found == states_.end() || in.q.shape[2] != 1 || in.k.shape[2] != 1) {
    return bad_input("decode", "one token a step, after a prefill of the layer");
  }
  State& s = found->second;
  const std::int64_t past = s.tokens, keys = past + 1, n = config_.blocks(keys);
  const std::int64_t old_n = config_.blocks(past), own = past / config_.block;
  Mask given;
  if (in.mask) {  // before anything of the state is changed
    PS_TRY(given, mask_of(in, past));
  }
  s.q = joined(s.q, converted(in.q, dtype_));
  s.k = joined(s.k, converted(in.k, dtype_));
  s.v = joined(s.v, converted(in.v, dtype_));
  const auto grown = [&](std::vector<std::uint8_t>& valid) {  // lines of `past`, one token longer
    std::vector<std::uint8_t> out;
    for (auto line = valid.begin(); line != valid.end(); line += past) {
      out.insert(out.end(), line, line + past);
      out.push_back(1);
    }
    valid = std::move(out);
  };
  grown(s.head_valid), grown(s.key_valid), grown(s.query_valid);
  Mask mask;
  mask.heads = s.mask_heads, mask.queries = 1, mask.cells = s.head_valid;
  if (in.mask) mask = std::move(given);
  std::vector<std::uint8_t> allowed(at(s.batch * n * n), 0);
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t i = 0; i < old_n; ++i) {
      std::copy_n(s.allowed.begin() + (b * old_n + i) * old_n, old_n,
                  allowed.begin() + (b * n + i) * n);
    }
    for (std::int64_t i = 0; i < mask.heads * keys; ++i) {
      if (mask.cells[at(b * mask.heads * keys + i)] == 0) continue;
      allowed[at((b * n + own) * n + i % keys / config_.block)] = 1;
    }
  }
  s.allowed = std::move(allowed);
  s.tokens = keys;
  return run(layer, s, mask, past, true);
}

Result<SparseLayer> SparseCandidate::run(std::int64_t layer, State& s, const Mask& mask,
                                         std::int64_t past, bool decode) {
  arena_.reset();
  SparseLayer out;
  const Shape shape = {s.batch, config_.heads, mask.queries, config_.head_dim};
  if (layer >= config_.skip && walks()) choose_walk(layer, s, past, decode, out);
  if (layer >= config_.skip && !walks()) choose_gate(s, mask, past, decode, out);
  if (planted_lists_ && !out.lists.empty()) {
    planted_lists_(out.lists, past / config_.block, decode);
  }
  const Array result = arena_.take(dtype_, {shape[0], shape[1], shape[2], shape[3]});
  attend(s, mask, past, out.lists, result);
  out.out = Tensor(dtype_, shape);
  if (!backend_->error()) backend_->download(result, out.out.bytes().data());
  if (backend_->error()) return *backend_->error();
  return out;
}

void SparseCandidate::choose_walk(std::int64_t layer, State& s, std::int64_t past, bool decode,
                                  SparseLayer& out) {
  const std::int64_t n = config_.blocks(s.tokens), first = past / config_.block, b = s.batch;
  std::vector<std::uint8_t> query_valid = s.query_valid;
  if (decode) {  // the newest queries of a block speak for it
    const std::int64_t from = std::max(first * config_.block, s.tokens - config_.decode_window);
    for (std::int64_t row = 0; row < b; ++row) {
      std::fill(query_valid.begin() + row * s.tokens + first * config_.block,
                query_valid.begin() + row * s.tokens + from, 0);
    }
  }
  const auto means = [&](const Tensor& x, const std::vector<std::uint8_t>& valid) {
    return kernels_.means(uploaded(x),
                          kernels_.uploaded(DType::kBool, {b, s.tokens}, valid.data()));
  };
  const Array weight =
      kernels_.uploaded(DType::kF32, {config_.sketch, config_.head_dim}, sketch_.data());
  const Array kb = means(s.k, s.key_valid), qb = means(s.q, query_valid);
  const Array scores = kernels_.sketch_scores(qb, kb, weight);
  const Array allowed = kernels_.uploaded(DType::kBool, {b, n, n}, s.allowed.data());
  const Array log_w = kernels_.log_transition(scores, allowed);
  const Array log_r = walked(layer, s, log_w, allowed);
  s.log_w = kernels_.downloaded<float>(log_w);
  s.log_r = kernels_.downloaded<float>(log_r);
  const Array taken = kernels_.pick_walk(log_r, allowed, s.allowed, 0);
  const auto chosen = kernels_.downloaded<std::uint8_t>(taken);
  const BlockLists all = SparseKernels::lists_of(chosen, b, 1, n, n);
  out.lists = BlockLists(b, 1, n - first);
  for (std::int64_t row = 0; row < b; ++row) {
    for (std::int64_t i = first; i < n; ++i) out.lists.at(row, 0, i - first) = all.at(row, 0, i);
  }
  out.key_blocks = tensor_of({b, n, config_.head_dim}, kernels_.downloaded<float>(kb));
  show_walk(s, kernels_.downloaded<float>(scores), first, out);
}

// What others see: rows of the queries alone, and probabilities instead of logarithms.
void SparseCandidate::show_walk(const State& s, const std::vector<float>& scores,
                                std::int64_t first, SparseLayer& out) const {
  const std::int64_t n = config_.blocks(s.tokens), rows = n - first, b = s.batch;
  std::vector<float> shown_scores, w, walk;
  std::vector<std::uint8_t> shown;
  float greatest = -HUGE_VALF;
  for (std::size_t i = 0; i < s.allowed.size(); ++i) {
    if (s.allowed[i] != 0) greatest = std::max(greatest, s.log_w[i]);
  }
  for (std::int64_t i = 0; i < b * n * n; ++i) {
    if (i / n % n < first) continue;
    const bool open = s.allowed[at(i)] != 0;
    shown.push_back(s.allowed[at(i)]);
    shown_scores.push_back(scores[at(i)]);
    w.push_back(open ? std::exp(s.log_w[at(i)] - greatest) : 0.f);
    walk.push_back(open ? std::exp(s.log_r[at(i)]) : 0.f);
  }
  out.block_allowed = Tensor::of<std::uint8_t>(DType::kU8, {b, rows, n}, shown);
  out.scores = tensor_of({b, rows, n}, shown_scores);
  out.transition = tensor_of({b, rows, n}, w);
  out.walk = tensor_of({b, rows, n}, walk);
}

// Along the layers that count: all before this one, or the last `depth`.
Array SparseCandidate::walked(std::int64_t layer, const State& s, const Array& log_w,
                              const Array& allowed) {
  const std::int64_t n = config_.blocks(s.tokens), b = s.batch;
  const auto kept = [&](const std::vector<float>& x) {
    return kernels_.uploaded(DType::kF32, {b, n, n}, x.data());
  };
  std::vector<Array> steps;
  std::optional<Array> before;
  if (config_.depth == 0) {
    if (layer > config_.skip) before = kept(states_.at(layer - 1).log_r);
  } else {
    for (std::int64_t l = std::max(config_.skip, layer - config_.depth + 1); l < layer; ++l) {
      steps.push_back(kept(states_.at(l).log_w));
    }
  }
  steps.push_back(log_w);
  return kernels_.log_walk(before ? &*before : nullptr, steps, allowed);
}

// A gate looks at the queries of this call alone, and each head for itself.
void SparseCandidate::choose_gate(const State& s, const Mask& mask, std::int64_t past, bool decode,
                                  SparseLayer& out) {
  const std::int64_t n = config_.blocks(s.tokens), first = past / config_.block, b = s.batch;
  const std::int64_t h = config_.heads, rows = n - first, queries = mask.queries;
  std::vector<std::uint8_t> allowed(at(b * h * rows * n), 0), query_valid;
  for (std::int64_t i = 0; i < b * h * queries * s.tokens; ++i) {
    const std::int64_t key = i % s.tokens, query = i / s.tokens % queries;
    const std::int64_t head = i / s.tokens / queries % h, batch = i / s.tokens / queries / h;
    const std::int64_t of = batch * mask.heads + (mask.heads == 1 ? 0 : head);
    if (mask.cells[at((of * queries + query) * s.tokens + key)] == 0) continue;
    const std::int64_t row = (past + query) / config_.block - first;
    allowed[at(((batch * h + head) * rows + row) * n + key / config_.block)] = 1;
  }
  for (std::int64_t row = 0; row < b; ++row) {
    const auto line = s.query_valid.begin() + row * s.tokens;
    query_valid.insert(query_valid.end(), line + past, line + s.tokens);
  }
  const Array q = uploaded(s.q).narrowed(2, past, queries), k = uploaded(s.k);
  const Array pq =
      kernels_.pooled(q, kernels_.uploaded(DType::kBool, {b, queries}, query_valid.data()), past);
  const Array pk =
      kernels_.pooled(k, kernels_.uploaded(DType::kBool, {b, s.tokens}, s.key_valid.data()), 0);
  const Array open = kernels_.uploaded(DType::kBool, {b, h, rows, n}, allowed.data());
  const Array scores = kernels_.gate_scores(
      pq, pk, kernels_.uploaded(DType::kF32, {h, gate_channels_, gate_dim_}, gate_q_.data()),
      kernels_.uploaded(DType::kF32, {h, gate_dim_, gate_channels_}, gate_k_.data()), open);
  const Array taken = kernels_.pick_gate(scores.reshaped({b * h, rows, n}),
                                         open.reshaped({b * h, rows, n}), allowed, first, decode);
  out.lists = SparseKernels::lists_of(kernels_.downloaded<std::uint8_t>(taken), b, h, rows, n);
  out.scores = tensor_of({b * h, rows, n}, kernels_.downloaded<float>(scores));
  out.block_allowed = Tensor::of<std::uint8_t>(DType::kU8, {b * h, rows, n}, allowed);
}

void SparseCandidate::attend(const State& s, const Mask& mask, std::int64_t past,
                             const BlockLists& lists, const Array& out) {
  const std::int64_t queries = mask.queries, heads = mask.heads, keys = s.tokens;
  const std::int64_t size = config_.block;
  const Array all =
      kernels_.uploaded(DType::kBool, {s.batch, heads, queries, keys}, mask.cells.data());
  SparseKernels::Attended a;
  a.q = uploaded(s.q).narrowed(2, past, queries);
  a.k = uploaded(s.k), a.v = uploaded(s.v);
  a.past = past;
  a.lists = lists.empty() ? nullptr : &lists;
  a.mask = [&](std::int64_t begin, std::int64_t count) { return all.narrowed(2, begin, count); };
  a.tile = [&](std::int64_t row, std::int64_t head, std::int64_t begin, std::int64_t count,
               std::int64_t j) -> std::uint8_t {
    const std::int64_t from = head < 0 || heads == 1 ? 0 : head;
    const std::int64_t to = head < 0 ? heads : from + 1;
    const std::int64_t width = std::min(size, keys - j * size);
    bool every = width == size, any = false;
    for (std::int64_t line = from * count; line < to * count && (every || !any); ++line) {
      const std::int64_t query = (row * heads + line / count) * queries + begin + line % count;
      const auto cells = mask.cells.begin() + query * keys + j * size;
      const auto seen = std::count_if(cells, cells + width, [](std::uint8_t c) { return c != 0; });
      every = every && seen == width;
      any = any || seen > 0;
    }
    return every ? 1 : (any ? 0 : 2);
  };
  a.out = out;
  kernels_.attend(a);
}

Result<std::unique_ptr<SparseEngine>> open_sparse_candidate(const SparseConfig& config,
                                                            const SparseWeights& weights,
                                                            const CandidateOptions& options) {
  if (options.dtype != DType::kF32 && options.dtype != DType::kBF16 &&
      options.dtype != DType::kF16) {
    return bad_input("dtype", "the candidate runs in float32, bfloat16 or float16", {},
                     std::string(torch_name(options.dtype)));
  }
  const bool walks = config.selector == SparseSelector::kWalk;
  if (walks ? weights.sketch.shape().size() != 2
            : weights.gate_wq.shape().size() != 3 || weights.gate_wk.shape().size() != 3) {
    return bad_input("config", "no projection to select with",
                     walks ? "a sketch [D,r]" : "gate_wq and gate_wk [H, pools D, gate size]");
  }
  PS_TRY(std::unique_ptr<Backend> backend, open_backend(options));
  return std::unique_ptr<SparseEngine>(
      std::make_unique<SparseCandidate>(config, weights, options.dtype, std::move(backend)));
}

}  // namespace ps
