#include "model/sparse.h"

#include <algorithm>
#include <cmath>
#include <limits>

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

Tensor tensor_of(Shape shape, const std::vector<float>& x) {
  return Tensor::of<float>(DType::kF32, std::move(shape), x);
}

}  // namespace

SparseCandidate::SparseCandidate(const SparseConfig& config, const SparseWeights& weights,
                                 DType dtype, std::unique_ptr<Backend> backend)
    : config_(config), dtype_(dtype), backend_(std::move(backend)), arena_(*backend_) {
  // [D,r] as the weight of a linear op: [r,D].
  sketch_.resize(at(config.sketch * config.head_dim));
  for (std::int64_t d = 0; d < config.head_dim; ++d) {
    for (std::int64_t r = 0; r < config.sketch; ++r) {
      sketch_[at(r * config.head_dim + d)] =
          static_cast<float>(value_at(weights.sketch.view(), d * config.sketch + r));
    }
  }
}

template <class T>
Array SparseCandidate::uploaded(DType dtype, std::initializer_list<std::int64_t> sizes,
                                const T* values) {
  const Array out = arena_.take(dtype, sizes);
  if (!backend_->error()) backend_->upload(values, out);
  return out;
}

Array SparseCandidate::uploaded(const Tensor& t) {
  const Shape& s = t.shape();
  return uploaded(t.dtype(), {s[0], s[1], s[2], s[3]}, bytes_of(t).data());
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
  s.batch = batch, s.tokens = keys;
  s.q = with_past(converted(in.q, dtype_), past);
  s.k = converted(in.k, dtype_);
  s.v = converted(in.v, dtype_);
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
  s.q = joined(s.q, converted(in.q, dtype_));
  s.k = joined(s.k, converted(in.k, dtype_));
  s.v = joined(s.v, converted(in.v, dtype_));
  std::vector<std::uint8_t> key_valid, query_valid, allowed(at(s.batch * n * n), 0);
  Mask mask;
  mask.queries = 1;
  for (std::int64_t b = 0; b < s.batch; ++b) {
    const auto grown = [&](std::vector<std::uint8_t>& to, const std::vector<std::uint8_t>& from) {
      to.insert(to.end(), from.begin() + b * past, from.begin() + (b + 1) * past);
      to.push_back(1);
    };
    grown(key_valid, s.key_valid);
    grown(query_valid, s.query_valid);
    for (std::int64_t i = 0; i < old_n; ++i) {
      std::copy_n(s.allowed.begin() + (b * old_n + i) * old_n, old_n,
                  allowed.begin() + (b * n + i) * n);
    }
    for (std::int64_t j = 0; j < keys; ++j) {
      const std::uint8_t valid = key_valid[at(b * keys + j)];
      mask.cells.push_back(valid);
      if (valid != 0) allowed[at((b * n + own) * n + j / config_.block)] = 1;
    }
  }
  s.key_valid = std::move(key_valid), s.query_valid = std::move(query_valid);
  s.allowed = std::move(allowed);
  s.tokens = keys;
  return run(layer, s, mask, past, true);
}

Result<SparseLayer> SparseCandidate::run(std::int64_t layer, State& s, const Mask& mask,
                                         std::int64_t past, bool decode) {
  arena_.reset();
  SparseLayer out;
  const std::int64_t queries = mask.queries;
  if (layer >= config_.skip) choose(layer, s, past, decode, out);
  {
    const Array q = uploaded(s.q), k = uploaded(s.k), v = uploaded(s.v);
    const Array result = arena_.take(dtype_, {s.batch, config_.heads, queries, config_.head_dim});
    attend(s, mask, past, out.lists, q.narrowed(2, past, queries), k, v, result);
    out.out = Tensor(dtype_, {s.batch, config_.heads, queries, config_.head_dim});
    if (!backend_->error()) backend_->download(result, out.out.bytes().data());
  }
  if (backend_->error()) return *backend_->error();
  return out;
}

void SparseCandidate::choose(std::int64_t layer, State& s, std::int64_t past, bool decode,
                             SparseLayer& out) {
  const std::int64_t n = config_.blocks(s.tokens), first = past / config_.block, b = s.batch;
  const std::int64_t dim = config_.head_dim, r = config_.sketch;
  std::vector<std::uint8_t> query_valid = s.query_valid;
  if (decode) {  // the newest queries of a block speak for it
    const std::int64_t from = std::max(first * config_.block, s.tokens - config_.decode_window);
    for (std::int64_t row = 0; row < b; ++row) {
      std::fill(query_valid.begin() + row * s.tokens + first * config_.block,
                query_valid.begin() + row * s.tokens + from, 0);
    }
  }
  const auto pooled = [&](const Tensor& x, const std::vector<std::uint8_t>& valid) {
    const Array means = arena_.take(DType::kF32, {b, n, dim});
    backend_->run(Op::block_pool,
                  {uploaded(x), uploaded(DType::kBool, {b, s.tokens}, valid.data()), means},
                  {static_cast<double>(config_.block)});
    return means;
  };
  const Array weight = uploaded(DType::kF32, {r, dim}, sketch_.data());
  const auto sketched = [&](const Array& means) {
    const Array x = means.reshaped({b * n, dim}), y = arena_.take(DType::kF32, {b * n, r});
    backend_->gemm(plan_linear(x, weight, false, y), weight, x, {}, y);
    return y.reshaped({b, 1, n, r});
  };
  const Array kb = pooled(s.k, s.key_valid), q = sketched(pooled(s.q, query_valid)),
              k = sketched(kb);
  const Array scores = arena_.take(DType::kF32, {b, 1, n, n});
  const float scale = 1.f / std::sqrt(static_cast<float>(r));
  backend_->gemm(folded(plan_scores(q, k, scale, scores)), k, q, {}, scores);
  const Array flat = scores.reshaped({b, n, n});
  const Array allowed = uploaded(DType::kBool, {b, n, n}, s.allowed.data());
  const Array log_w = arena_.take(DType::kF32, {b, n, n});
  backend_->run(Op::log_transition, {flat, allowed, log_w}, {config_.exponent});
  s.log_w.resize(at(b * n * n));
  if (!backend_->error()) backend_->download(log_w, s.log_w.data());
  s.log_r = walked(layer, s, log_w, allowed);

  std::vector<std::uint8_t> forced(at(b * n * n), 0), chosen(forced.size());
  for (std::int64_t i = 0; i < b * n * n; ++i) {
    const std::int64_t own = i / n % n, j = i % n;
    const bool wanted = j < config_.sinks || (own - config_.locals < j && j <= own);
    forced[at(i)] = wanted && s.allowed[at(i)] != 0 ? 1 : 0;
  }
  const Array taken = arena_.take(DType::kBool, {b, n, n});
  backend_->run(Op::block_top,
                {uploaded(DType::kF32, {b, n, n}, s.log_r.data()), allowed,
                 uploaded(DType::kBool, {b, n, n}, forced.data()), taken},
                {static_cast<double>(config_.tau)});
  std::vector<float> all_scores(at(b * n * n)), means(at(b * n * dim));
  if (!backend_->error()) {
    backend_->download(taken, chosen.data());
    backend_->download(flat, all_scores.data());
    backend_->download(kb, means.data());
  }
  // What others see: rows of the queries alone, and probabilities instead of logarithms.
  const std::int64_t rows = n - first;
  out.lists = BlockLists(b, 1, rows);
  std::vector<float> shown_scores, w, walk;
  std::vector<std::uint8_t> shown;
  float greatest = -HUGE_VALF;
  for (std::size_t i = 0; i < s.allowed.size(); ++i) {
    if (s.allowed[i] != 0) greatest = std::max(greatest, s.log_w[i]);
  }
  for (std::int64_t row = 0; row < b; ++row) {
    for (std::int64_t i = first; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const std::size_t cell = at((row * n + i) * n + j);
        const bool open = s.allowed[cell] != 0;
        if (chosen[cell] != 0) {
          out.lists.at(row, 0, i - first).push_back(static_cast<std::int32_t>(j));
        }
        shown.push_back(s.allowed[cell]);
        shown_scores.push_back(all_scores[cell]);
        w.push_back(open ? std::exp(s.log_w[cell] - greatest) : 0.f);
        walk.push_back(open ? std::exp(s.log_r[cell]) : 0.f);
      }
    }
  }
  out.block_allowed = Tensor::of<std::uint8_t>(DType::kU8, {b, rows, n}, shown);
  out.key_blocks = tensor_of({b, n, dim}, means);
  out.scores = tensor_of({b, rows, n}, shown_scores);
  out.transition = tensor_of({b, rows, n}, w);
  out.walk = tensor_of({b, rows, n}, walk);
}

// Along the layers that count: all before this one, or the last `depth`.
std::vector<float> SparseCandidate::walked(std::int64_t layer, const State& s, const Array& log_w,
                                           const Array& allowed) {
  const std::int64_t n = config_.blocks(s.tokens), b = s.batch;
  std::vector<float> result(at(b * n * n), 0.f);
  std::vector<std::uint8_t> diagonal(result.size(), 0);
  for (std::int64_t i = 0; i < b * n; ++i) diagonal[at(i * n + i % n)] = 1;
  // From the identity, whose logarithm is 0 on the diagonal and nothing elsewhere.
  Array r = uploaded(DType::kF32, {b, n, n}, result.data());
  Array reached = uploaded(DType::kBool, {b, n, n}, diagonal.data());
  const auto step = [&](const Array& w) {
    const Array next = arena_.take(DType::kF32, {b, n, n});
    backend_->run(Op::log_walk, {r, reached, w, allowed, allowed, next}, {});
    r = next;
    reached = allowed;
  };
  if (config_.depth == 0) {
    if (layer > config_.skip) {
      r = uploaded(DType::kF32, {b, n, n}, states_.at(layer - 1).log_r.data());
      reached = allowed;
    }
  } else {
    for (std::int64_t l = std::max(config_.skip, layer - config_.depth + 1); l < layer; ++l) {
      step(uploaded(DType::kF32, {b, n, n}, states_.at(l).log_w.data()));
    }
  }
  step(log_w);
  if (!backend_->error()) backend_->download(r, result.data());
  return result;
}

// Query block by query block: its keys side by side, then products around a softmax.
void SparseCandidate::attend(const State& s, const Mask& mask, std::int64_t past,
                             const BlockLists& lists, const Array& q, const Array& k,
                             const Array& v, const Array& out) {
  const std::int64_t keys = s.tokens, size = config_.block, first = past / size;
  const std::int64_t n = config_.blocks(keys), queries = mask.queries, heads = mask.heads;
  const float scale = 1.f / std::sqrt(static_cast<float>(config_.head_dim));
  const Array all = uploaded(DType::kBool, {s.batch, heads, queries, keys}, mask.cells.data());
  for (std::int64_t b = 0; b < s.batch; ++b) {
    for (std::int64_t i = first; i < n; ++i) {
      const Arena::Scope scope(arena_);
      const std::int64_t begin = std::max<std::int64_t>(0, i * size - past);
      const std::int64_t count = std::min(queries, (i + 1) * size - past) - begin;
      if (count <= 0) continue;
      const Array to = out.narrowed(0, b, 1).narrowed(2, begin, count);
      std::vector<std::int64_t> list;
      if (lists.empty()) {  // dense: every block that holds an allowed pair
        for (std::int64_t j = 0; j < n; ++j) {
          if (s.allowed[at((b * n + i) * n + j)] != 0) list.push_back(j);
        }
      } else {
        for (const std::int32_t j : lists.at(b, 0, i - first)) list.push_back(j);
      }
      // A row block without any key: one block, fully masked, gives zeros.
      if (list.empty()) list.push_back(0);
      std::vector<std::uint8_t> full;
      for (const std::int64_t j : list) {
        bool every = (j + 1) * size <= keys;
        for (std::int64_t row = 0; every && row < heads * count; ++row) {
          const std::int64_t line = (b * heads + row / count) * queries + begin + row % count;
          const auto cells = mask.cells.begin() + line * keys + j * size;
          every = std::all_of(cells, cells + size, [](std::uint8_t c) { return c != 0; });
        }
        full.push_back(every ? 1 : 0);
      }
      const auto entries = static_cast<std::int64_t>(list.size()), slots = entries * size;
      const Array index = uploaded(DType::kI64, {entries}, list.data());
      const Array tiles = uploaded(DType::kBool, {entries}, full.data());
      const Array keys_here = arena_.take(dtype_, {1, config_.kv_heads, slots, config_.head_dim});
      const Array values_here = arena_.take(dtype_, {1, config_.kv_heads, slots, config_.head_dim});
      const auto width = static_cast<double>(size);
      backend_->run(Op::gather_blocks, {k.narrowed(0, b, 1), index, keys_here}, {width});
      backend_->run(Op::gather_blocks, {v.narrowed(0, b, 1), index, values_here}, {width});
      const Array seen = arena_.take(DType::kBool, {1, heads, count, slots});
      backend_->run(Op::gather_mask,
                    {all.narrowed(0, b, 1).narrowed(2, begin, count), index, tiles, seen}, {width});
      const Array scores = arena_.take(dtype_, {1, config_.heads, count, slots});
      const Array probs = arena_.take(dtype_, {1, config_.heads, count, slots});
      const Array from = q.narrowed(0, b, 1).narrowed(2, begin, count);
      backend_->gemm(folded(plan_scores(from, keys_here, scale, scores)), keys_here, from, {},
                     scores);
      backend_->run(Op::softmax, {scores, seen, probs}, {0});
      backend_->gemm(folded(plan_context(probs, values_here, to)), values_here, probs, {}, to);
    }
  }
}

Result<std::unique_ptr<SparseEngine>> open_sparse_candidate(const SparseConfig& config,
                                                            const SparseWeights& weights,
                                                            const CandidateOptions& options) {
  if (options.dtype != DType::kF32 && options.dtype != DType::kBF16 &&
      options.dtype != DType::kF16) {
    return bad_input("dtype", "the candidate runs in float32, bfloat16 or float16", {},
                     std::string(torch_name(options.dtype)));
  }
  if (config.selector != SparseSelector::kWalk || config.damping != 0) {
    return bad_input("config", "the candidate's kernels know walks without damping, no gates");
  }
  PS_TRY(std::unique_ptr<Backend> backend, open_backend(options));
  return std::unique_ptr<SparseEngine>(
      std::make_unique<SparseCandidate>(config, weights, options.dtype, std::move(backend)));
}

}  // namespace ps
