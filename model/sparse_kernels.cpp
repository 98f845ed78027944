#include "model/sparse_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

namespace ps {

namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

Array SparseKernels::means(const Array& x, const Array& valid) {
  const Array out = arena_.take(DType::kF32, {x.size(0), config_.blocks(x.size(2)), x.size(3)});
  backend_.run(Op::block_pool, {x, valid, out}, {static_cast<double>(config_.block)});
  return out;
}

Array SparseKernels::sketch_scores(const Array& q_blocks, const Array& k_blocks,
                                   const Array& weight) {
  const std::int64_t rows = q_blocks.size(0), n = q_blocks.size(1), dim = q_blocks.size(2);
  const std::int64_t r = weight.size(0);
  const auto sketched = [&](const Array& means) {
    const Array x = means.reshaped({rows * n, dim}), y = arena_.take(DType::kF32, {rows * n, r});
    backend_.gemm(plan_linear(x, weight, false, y), weight, x, {}, y);
    return y.reshaped({rows, 1, n, r});
  };
  const Array q = sketched(q_blocks), k = sketched(k_blocks);
  const Array scores = arena_.take(DType::kF32, {rows, 1, n, n});
  const float scale = 1.f / std::sqrt(static_cast<float>(r));
  backend_.gemm(folded(plan_scores(q, k, scale, scores)), k, q, {}, scores);
  return scores.reshaped({rows, n, n});
}

Array SparseKernels::log_transition(const Array& scores, const Array& allowed) {
  const Array out = arena_.take(DType::kF32, {scores.size(0), scores.size(1), scores.size(2)});
  backend_.run(Op::log_transition, {scores, allowed, out}, {config_.exponent});
  return out;
}

Array SparseKernels::log_walk(const Array* before, std::span<const Array> log_steps,
                              const Array& allowed) {
  const std::int64_t rows = allowed.size(0), n = allowed.size(1);
  Array r, reached;
  if (before != nullptr) {
    r = *before;
    reached = allowed;
  } else {  // the identity, whose logarithm is 0 on the diagonal and nothing elsewhere
    const std::vector<float> zeros(at(rows * n * n), 0.f);
    std::vector<std::uint8_t> diagonal(zeros.size(), 0);
    for (std::int64_t i = 0; i < rows * n; ++i) diagonal[at(i * n + i % n)] = 1;
    r = uploaded(DType::kF32, {rows, n, n}, zeros.data());
    reached = uploaded(DType::kBool, {rows, n, n}, diagonal.data());
  }
  for (const Array& w : log_steps) {
    const Array next = arena_.take(DType::kF32, {rows, n, n});
    backend_.run(Op::log_walk, {r, reached, w, allowed, w, allowed, next}, {config_.damping});
    r = next;
    reached = allowed;
  }
  return r;
}

Array SparseKernels::pick_walk(const Array& scores, const Array& allowed,
                               std::span<const std::uint8_t> open, std::int64_t first) {
  const std::int64_t rows = scores.size(0), queries = scores.size(1), n = scores.size(2);
  std::vector<std::uint8_t> forced(open.size());
  for (std::int64_t i = 0; i < rows * queries * n; ++i) {
    const std::int64_t own = first + i / n % queries, j = i % n;
    const bool wanted = j < config_.sinks || (own - config_.locals < j && j <= own);
    forced[at(i)] = wanted && open[at(i)] != 0 ? 1 : 0;
  }
  const Array taken = arena_.take(DType::kBool, {rows, queries, n});
  backend_.run(Op::block_top,
               {scores, allowed, uploaded(DType::kBool, {rows, queries, n}, forced.data()), taken},
               {static_cast<double>(config_.tau)});
  return taken;
}

Array SparseKernels::pooled(const Array& x, const Array& valid, std::int64_t past) {
  const std::string& pool = config_.pool;
  const std::int64_t dim = x.size(3), pools = std::count(pool.begin(), pool.end(), '+') + 1;
  const std::int64_t n = config_.blocks(past + x.size(2)) - past / config_.block;
  const Array out = arena_.take(DType::kF32, {x.size(0), x.size(1), n, pools * dim});
  std::string_view rest = pool;
  for (std::int64_t p = 0; p < pools; ++p) {
    const std::string_view kind = rest.substr(0, rest.find('+'));
    rest.remove_prefix(std::min(rest.size(), kind.size() + 1));
    const double code = kind == "avg" ? 0 : (kind == "max" ? 1 : 2);
    backend_.run(Op::gate_pool, {x, valid, out.narrowed(3, p * dim, dim)},
                 {static_cast<double>(config_.block), static_cast<double>(past), code});
  }
  return out;
}

Array SparseKernels::gate_scores(const Array& q, const Array& k, const Array& wq,
                                 const Array& wk_turned, const Array& allowed) {
  const std::int64_t rows = q.size(0), heads = q.size(1), queries = q.size(2), n = k.size(2);
  const std::int64_t channels = wq.size(1), width = wq.size(2);
  const Array w = wq.reshaped({1, heads, channels, width});
  const Array turned = wk_turned.reshaped({1, heads, width, channels});
  const float scale = 1.f / std::sqrt(static_cast<float>(width));
  const Array scores = arena_.take(DType::kF32, {rows, heads, queries, n});
  for (std::int64_t row = 0; row < rows; ++row) {
    const Arena::Scope scope(arena_);
    const Array pq = q.narrowed(0, row, 1), pk = k.narrowed(0, row, 1);
    const Array gq = arena_.take(DType::kF32, {1, heads, queries, width});
    backend_.gemm(folded(plan_context(pq, w, gq)), w, pq, {}, gq);
    // Query head h weighs the keys of its group's head: turned weights are its "queries", and what
    // comes out is the keys' projection, turned as the product after it wants it.
    const Array gk = arena_.take(DType::kF32, {1, heads, width, n});
    backend_.gemm(folded(plan_scores(turned, pk, scale, gk)), pk, turned, {}, gk);
    const Array to = scores.narrowed(0, row, 1);
    backend_.gemm(folded(plan_context(gq, gk, to)), gk, gq, {}, to);
  }
  const Array probs = arena_.take(DType::kF32, {rows, heads, queries, n});
  backend_.run(Op::softmax, {scores, allowed, probs}, {0});
  return probs;
}

Array SparseKernels::pick_gate(const Array& scores, const Array& allowed,
                               std::span<const std::uint8_t> open, std::int64_t first,
                               bool decode) {
  const std::int64_t rows = scores.size(0), queries = scores.size(1), n = scores.size(2);
  std::vector<std::uint8_t> forced(open.size());
  for (std::int64_t i = 0; i < rows * queries * n; ++i) {
    const std::int64_t row = i / n % queries, own = first + row, j = i % n;
    const bool near = j < config_.sinks || (own - config_.locals < j && j <= own);
    const bool dense = config_.last_block_dense && row >= queries - 2;
    const bool last = decode && j == n - 1;
    forced[at(i)] = (near || dense || last) && open[at(i)] != 0 ? 1 : 0;
  }
  const Array always = uploaded(DType::kBool, {rows, queries, n}, forced.data());
  const Array taken = arena_.take(DType::kBool, {rows, queries, n});
  if (config_.gate == GateRule::kTokenBudget) {  // the budget holds the forced blocks as well
    const auto count = std::max<std::int64_t>(1, config_.token_budget / config_.block);
    backend_.run(Op::block_top, {scores, allowed, always, taken}, {static_cast<double>(count)});
    return taken;
  }
  double threshold = -std::numeric_limits<double>::infinity(), count = static_cast<double>(n);
  bool everything = false;
  if (config_.gate == GateRule::kThreshold) threshold = config_.threshold;
  if (config_.gate == GateRule::kNzRatio) {
    const double kept = 1.0 - std::sqrt(1.0 - config_.nz_ratio);
    count = std::max(1.0, std::floor(kept * static_cast<double>(n)));
    everything = true;
  }
  backend_.run(Op::gate_pick, {scores, allowed, always, taken},
               {threshold, count, everything ? 1.0 : 0.0});
  return taken;
}

BlockLists SparseKernels::lists_of(std::span<const std::uint8_t> taken, std::int64_t rows,
                                   std::int64_t heads, std::int64_t queries, std::int64_t n) {
  BlockLists out(rows, heads, queries);
  for (std::size_t line = 0; line < out.lists.size(); ++line) {
    for (std::int64_t j = 0; j < n; ++j) {
      if (taken[line * at(n) + at(j)] != 0) out.lists[line].push_back(static_cast<std::int32_t>(j));
    }
  }
  return out;
}

// Query block by query block: its keys side by side, then products around a softmax.
void SparseKernels::attend(const Attended& a) {
  const std::int64_t rows = a.q.size(0), heads = a.q.size(1), queries = a.q.size(2);
  const std::int64_t keys = a.k.size(2) - a.prefix, size = config_.block, first = a.past / size;
  const std::int64_t n = config_.blocks(keys);
  const bool shared = a.lists == nullptr || a.lists->heads == 1;
  for (std::int64_t i = first; i < n; ++i) {
    const std::int64_t begin = std::max<std::int64_t>(0, i * size - a.past);
    const std::int64_t count = std::min(queries, (i + 1) * size - a.past) - begin;
    if (count <= 0) continue;
    const Arena::Scope of_mask(arena_);
    const Array mask = a.mask(begin, count);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t head = 0; head < (shared ? 1 : heads); ++head) {
        std::vector<std::int64_t> list;
        if (a.lists == nullptr) {
          for (std::int64_t j = 0; j < n; ++j) {
            if (a.tile(row, -1, begin, count, j) != 2) list.push_back(j);
          }
        } else {
          for (const std::int32_t j : a.lists->at(row, head, i - first)) list.push_back(j);
        }
        attend_tiles(a, mask, row, shared ? -1 : head, shared ? heads : 1, begin, count, list);
      }
    }
  }
}

// One query block of a row, of one head or (head = -1) of all.
void SparseKernels::attend_tiles(const Attended& a, const Array& mask, std::int64_t row,
                                 std::int64_t head, std::int64_t heads, std::int64_t begin,
                                 std::int64_t count, const std::vector<std::int64_t>& list) {
  const Arena::Scope scope(arena_);
  const std::int64_t size = config_.block, dim = a.q.size(3), prefix = a.prefix;
  const std::int64_t keys = a.k.size(2) - prefix, group = a.q.size(1) / a.k.size(1);
  std::vector<std::int64_t> blocks = list;
  std::vector<std::uint8_t> tiles;
  for (const std::int64_t j : blocks) tiles.push_back(a.tile(row, head, begin, count, j));
  if (blocks.empty() && prefix == 0) {  // a row block without any key: a block that shows nothing
    blocks = {0};
    tiles = {2};
  }
  const auto entries = static_cast<std::int64_t>(blocks.size()), slots = entries * size;
  const auto side = [&](const Array& x, std::int64_t h, std::int64_t many) {
    return x.narrowed(0, row, 1).narrowed(1, h, many);
  };
  const std::int64_t from_head = std::max<std::int64_t>(head, 0);
  const std::int64_t kv_head = from_head / group, kv_heads = head < 0 ? a.k.size(1) : 1;
  const DType dtype = a.q.dtype();
  const Array index = uploaded(DType::kI64, {entries}, blocks.data());
  const auto gathered = [&](const Array& whole) {
    const Array x = side(whole, kv_head, kv_heads);
    const Array out = arena_.take(dtype, {1, kv_heads, prefix + slots, dim});
    if (prefix > 0) {
      backend_.run(Op::copy_rows, {x.narrowed(2, 0, prefix), out.narrowed(2, 0, prefix)}, {1});
    }
    if (entries > 0) {
      backend_.run(Op::gather_blocks,
                   {x.narrowed(2, prefix, keys), index, out.narrowed(2, prefix, slots)},
                   {static_cast<double>(size)});
    }
    return out;
  };
  const Array k = gathered(a.k), v = gathered(a.v);
  // Of the mask, the head's own part or that of all.
  const std::int64_t mask_row = row % mask.size(0);
  const std::int64_t mask_heads = head < 0 ? mask.size(1) : 1;
  const std::int64_t mask_head = mask.size(1) == 1 ? 0 : from_head;
  const Array shown = mask.narrowed(0, mask_row, 1).narrowed(1, mask_head, mask_heads);
  const Array seen = arena_.take(DType::kBool, {1, mask_heads, count, prefix + slots});
  if (prefix > 0) {  // the prefix as one block of its own
    const std::int64_t zero = 0;
    const std::uint8_t partial = 0;
    backend_.run(Op::gather_mask,
                 {shown.narrowed(3, 0, prefix), uploaded(DType::kI64, {1}, &zero),
                  uploaded(DType::kBool, {1}, &partial), seen.narrowed(3, 0, prefix)},
                 {static_cast<double>(prefix)});
  }
  if (entries > 0) {
    backend_.run(Op::gather_mask,
                 {shown.narrowed(3, prefix, keys), index,
                  uploaded(DType::kBool, {entries}, tiles.data()), seen.narrowed(3, prefix, slots)},
                 {static_cast<double>(size)});
  }
  const Array q = side(a.q, from_head, heads).narrowed(2, begin, count);
  const Array to = side(a.out, from_head, heads).narrowed(2, begin, count);
  const Array scores = arena_.take(dtype, {1, heads, count, prefix + slots});
  const Array probs = arena_.take(dtype, {1, heads, count, prefix + slots});
  const float scale = 1.f / std::sqrt(static_cast<float>(dim));
  backend_.gemm(folded(plan_scores(q, k, scale, scores)), k, q, {}, scores);
  backend_.run(Op::softmax, {scores, seen, probs}, {0});
  if (a.probs) {
    std::vector<std::int64_t> place(at(config_.blocks(keys)), -1);
    for (std::int64_t e = 0; e < entries; ++e) place[at(blocks[at(e)])] = e;
    backend_.run(
        Op::scatter_blocks,
        {probs, uploaded(DType::kI64, {static_cast<std::int64_t>(place.size())}, place.data()),
         side(a.probs, from_head, heads).narrowed(2, begin, count)},
        {static_cast<double>(size), static_cast<double>(prefix)});
  }
  backend_.gemm(folded(plan_context(probs, v, to)), v, probs, {}, to);
}

}  // namespace ps
