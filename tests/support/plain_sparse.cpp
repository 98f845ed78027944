#include "tests/support/plain_sparse.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/rng.h"

namespace ps {

namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

Tensor doubles_of(Shape shape, const std::vector<double>& x) {
  return Tensor::of<double>(DType::kF64, std::move(shape), x);
}

}  // namespace

PlainSparse::PlainSparse(const SparseConfig& config, const SparseWeights& weights,
                         std::set<std::string> deviations)
    : config_(config), weights_(weights), deviations_(std::move(deviations)) {}

void PlainSparse::reset() {
  states_.clear();
  stale_.clear();
}

Result<SparseLayer> PlainSparse::prefill(std::int64_t layer, const SparseInputs& in) {
  const SparseConfig& c = config_;
  if (does("no_gqa") && c.heads != c.kv_heads) {
    return bad_input("matmul", "batch dimensions differ", std::to_string(c.heads),
                     std::to_string(c.kv_heads));
  }
  const std::int64_t batch = in.q.shape[0], queries = in.q.shape[2], keys = in.k.shape[2];
  const std::int64_t past = keys - queries;
  State& s = states_[layer];
  s = State();
  for (std::int64_t b = 0; b < batch; ++b) {
    std::vector<Token> tokens;
    for (std::int64_t t = 0; t < keys; ++t) {
      Token token;
      const auto take = [&](const TensorView& x, std::int64_t i, std::vector<double>& to) {
        for (std::int64_t h = 0; h < x.shape[1]; ++h) {
          for (std::int64_t d = 0; d < c.head_dim; ++d) {
            to.push_back(
                i < 0 ? 0.0
                      : value_at(x, ((b * x.shape[1] + h) * x.shape[2] + i) * c.head_dim + d));
          }
        }
      };
      take(in.q, t - past, token.q);
      take(in.k, t, token.k);
      take(in.v, t, token.v);
      tokens.push_back(std::move(token));
    }
    s.tokens.push_back(std::move(tokens));
  }
  // The mask, as one byte a pair.
  std::int64_t heads = 1;
  if (in.mask && in.mask->shape.size() == 4) heads = in.mask->shape[1];
  std::vector<std::uint8_t> mask(at(batch * heads * queries * keys), 1);
  for (std::size_t i = 0; i < mask.size(); ++i) {
    const auto cell = static_cast<std::int64_t>(i);
    const std::int64_t q = cell / keys % queries, k = cell % keys;
    bool allowed = !c.causal || k <= q + (does("top_left") ? 0 : past);
    if (in.mask) {
      const double m = value_at(*in.mask, cell);
      const bool additive = is_floating(in.mask->dtype) && !does("add_bool");
      allowed = allowed && (additive ? m > -1e30 : does("add_bool") ? m > 0 : m != 0);
    }
    mask[i] = allowed ? 1 : 0;
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    std::vector<std::uint8_t> valid(at(keys), 0);
    for (std::int64_t i = 0; i < heads * queries * keys; ++i) {
      if (mask[at(b * heads * queries * keys + i)] != 0) valid[at(i % keys)] = 1;
    }
    s.key_valid.push_back(std::move(valid));
  }
  if (does("nq_error") && past > 0 && layer > c.skip) {
    return bad_input("matmul", "shapes cannot be multiplied", "[nb,nb]", "[1,nb]");
  }
  return select_and_attend(layer, mask, heads, queries, false, in.mask.has_value());
}

Result<SparseLayer> PlainSparse::decode(std::int64_t layer, const SparseInputs& in) {
  State& s = states_.at(layer);
  const SparseConfig& c = config_;
  std::vector<std::uint8_t> mask;
  for (std::int64_t b = 0; b < in.q.shape[0]; ++b) {
    Token token;
    const auto take = [&](const TensorView& x, std::vector<double>& to) {
      const std::int64_t n = x.shape[1] * c.head_dim;
      for (std::int64_t i = 0; i < n; ++i) to.push_back(value_at(x, b * n + i));
    };
    take(in.q, token.q);
    take(in.k, token.k);
    take(in.v, token.v);
    s.tokens[at(b)].push_back(std::move(token));
    s.key_valid[at(b)].push_back(1);
    mask.insert(mask.end(), s.key_valid[at(b)].begin(), s.key_valid[at(b)].end());
  }
  return select_and_attend(layer, mask, 1, 1, true, false);
}

std::vector<std::int32_t> PlainSparse::pick(const double* scores, const std::uint8_t* allowed,
                                            std::int64_t n, std::int64_t own, bool decode) const {
  const SparseConfig& c = config_;
  std::vector<std::int32_t> order(at(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return scores[a] > scores[b]; });
  if (does("tau_ranks") && c.tau % 2 == 0) std::reverse(order.begin(), order.end());
  if (does("prepend_block0") && !decode) {
    order.resize(at(std::min(c.tau, n)));
    order.pop_back();
    order.insert(order.begin(), 0);
    return order;
  }
  if (does("decode_duplicates") && decode) {
    order.resize(at(std::min(c.tau - 1, n)));
    order.insert(order.begin(), static_cast<std::int32_t>(own));
    return order;
  }
  std::vector<std::int32_t> out;
  const auto is = [&](std::int32_t j) { return std::find(out.begin(), out.end(), j) != out.end(); };
  std::int64_t open = 0;
  for (std::int64_t j = 0; j < n; ++j) {
    open += allowed[j];
    const bool local = !does("no_diagonal") && own - c.locals < j && j <= own;
    if (allowed[j] != 0 && (j < c.sinks || local)) out.push_back(static_cast<std::int32_t>(j));
  }
  if (does("future_fill")) open = n;
  const auto want = std::min(std::max(c.tau, static_cast<std::int64_t>(out.size())), open);
  for (const std::int32_t j : order) {
    const bool free = allowed[j] != 0 || does("future_fill");
    if (static_cast<std::int64_t>(out.size()) < want && free && !is(j)) out.push_back(j);
  }
  std::sort(out.begin(), out.end());
  return out;
}

SparseLayer PlainSparse::select_and_attend(std::int64_t layer,
                                           const std::vector<std::uint8_t>& mask,
                                           std::int64_t mask_heads, std::int64_t queries,
                                           bool decode, bool given) {
  const SparseConfig& c = config_;
  State& s = states_.at(layer);
  const auto batch = static_cast<std::int64_t>(s.tokens.size());
  const auto keys = static_cast<std::int64_t>(s.tokens[0].size());
  const std::int64_t past = keys - queries, n = c.blocks(keys), dim = c.head_dim;
  const std::int64_t first = past / c.block, rows = n - first, group = c.heads / c.kv_heads;
  const auto allowed_pair = [&](std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
    const std::int64_t head = mask_heads == 1 ? 0 : h;
    return mask[at(((b * mask_heads + head) * queries + i) * keys + j)] != 0;
  };
  const bool dense = layer < c.skip;
  SparseLayer out;
  if (!dense) {
    out.lists = BlockLists(batch, 1, rows);
    std::vector<double> all_scores, all_w, all_r;
    std::vector<std::uint8_t> all_allowed;
    std::vector<std::vector<double>> ws, rs;
    for (std::int64_t b = 0; b < batch; ++b) {
      // Which blocks may be looked at. Rows before the first query are those of earlier calls.
      std::vector<std::uint8_t> allowed(at(n * n), 0), q_valid(at(keys), 0);
      for (std::int64_t i = 0; i < keys; ++i) {
        const bool here = i >= past;
        for (std::int64_t h = 0; h < mask_heads; ++h) {
          for (std::int64_t j = 0; j < keys; ++j) {
            const bool sees = here ? allowed_pair(b, h, i - past, j)
                                   : decode && j <= i && s.key_valid[at(b)][at(j)] != 0;
            const bool ignored = does("ignore_mask") && given && (!c.causal || j <= i);
            if (!sees && !ignored) continue;
            allowed[at(i / c.block * n + j / c.block)] = 1;
            q_valid[at(i)] = 1;
          }
        }
      }
      const auto mean = [&](std::int64_t block, bool query) {
        std::vector<double> x(at(dim), 0.0);
        double count = 0;
        std::int64_t from = block * c.block;
        const std::int64_t to = std::min(keys, from + c.block);
        const bool newest = decode && query && block == first;
        if (newest) from = std::max(from, keys - (does("one_query") ? 1 : c.decode_window));
        for (std::int64_t t = from; t < to; ++t) {
          const bool valid = query ? q_valid[at(t)] != 0 : s.key_valid[at(b)][at(t)] != 0;
          if (!valid && !does("padded_mean")) continue;
          ++count;
          const Token& token = s.tokens[at(does("batch_leak") ? 0 : b)][at(t)];
          const auto& from_heads = query ? token.q : token.k;
          const std::int64_t heads = query ? c.heads : c.kv_heads;
          for (std::int64_t d = 0; d < dim; ++d) {
            for (std::int64_t h = 0; h < heads; ++h) {
              x[at(d)] += from_heads[at(h * dim + d)] / static_cast<double>(heads);
            }
          }
        }
        if (does("padded_mean") && !newest) count = static_cast<double>(c.block);
        for (double& v : x) v /= std::max(1.0, count);
        std::vector<double> projected(at(c.sketch), 0.0);
        for (std::int64_t d = 0; d < dim; ++d) {
          for (std::int64_t r = 0; r < c.sketch; ++r) {
            projected[at(r)] += x[at(d)] * value_at(weights_.sketch.view(), d * c.sketch + r);
          }
        }
        return projected;
      };
      std::vector<std::vector<double>> qs, ks;
      for (std::int64_t j = 0; j < n; ++j) {
        qs.push_back(mean(j, true));
        ks.push_back(mean(j, false));
      }
      std::vector<double> scores(at(n * n)), w(at(n * n), 0.0);
      for (std::int64_t i = 0; i < n; ++i) {
        double sum = 0, greatest = -HUGE_VAL;
        for (std::int64_t j = 0; j < n; ++j) {
          double dot = 0;
          for (std::size_t r = 0; r < qs[0].size(); ++r) dot += qs[at(i)][r] * ks[at(j)][r];
          scores[at(i * n + j)] = dot / std::sqrt(static_cast<double>(c.sketch));
          const bool in = allowed[at(i * n + j)] != 0 || does("late_mask");
          if (in) greatest = std::max(greatest, scores[at(i * n + j)]);
        }
        for (std::int64_t j = 0; j < n; ++j) {
          const bool in = allowed[at(i * n + j)] != 0 || does("late_mask");
          if (in) sum += std::exp(scores[at(i * n + j)] - greatest);
        }
        for (std::int64_t j = 0; j < n; ++j) {
          if (allowed[at(i * n + j)] == 0) continue;
          w[at(i * n + j)] = std::pow(std::exp(scores[at(i * n + j)] - greatest) / sum, c.exponent);
        }
      }
      // R of the layer before, times W.
      const auto multiply = [&](const std::vector<double>& r) {
        std::vector<double> next(at(n * n), 0.0);
        for (std::int64_t i = 0; i < n; ++i) {
          for (std::int64_t m = 0; m < n; ++m) {
            for (std::int64_t j = 0; j < n; ++j) {
              next[at(i * n + j)] += r[at(i * n + m)] * w[at(m * n + j)];
            }
          }
        }
        return next;
      };
      std::vector<double> r = w;
      if (layer > c.skip) r = multiply(states_.at(layer - 1).r[at(b)]);
      const auto old = stale_.find(layer);
      if (does("stale_state") && layer == c.skip && old != stale_.end() && !decode &&
          old->second.size() == static_cast<std::size_t>(batch) &&
          old->second[at(b)].size() == r.size()) {
        r = multiply(old->second[at(b)]);
      }
      for (std::int64_t i = 0; i < n; ++i) {
        double sum = 0;
        for (std::int64_t j = 0; j < n; ++j) {
          double& x = r[at(i * n + j)];
          if (allowed[at(i * n + j)] == 0) x = 0;
          if (does("float_state")) x = static_cast<double>(static_cast<float>(x));
          if (does("float_state") && x < std::numeric_limits<float>::min()) x = 0;
          sum += x;
        }
        for (std::int64_t j = 0; sum > 0 && !does("float_state") && j < n; ++j) {
          r[at(i * n + j)] /= sum;
        }
      }
      if (does("decode_padded") && decode) {  // a column of padding has its share of the softmax
        for (std::int64_t j = 0; j < n; ++j) r[at(first * n + j)] *= 0.9;
      }
      for (std::int64_t i = first; i < n; ++i) {
        out.lists.at(b, 0, i - first) =
            pick(r.data() + i * n, allowed.data() + i * n, n, i, decode);
      }
      const auto tail = [&](auto& to, const auto& from) {
        to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(first * n), from.end());
      };
      double most = *std::max_element(w.begin(), w.end());
      if (!(most > 0)) most = 1;
      std::vector<double> shown = w;
      for (double& x : shown) x /= most;
      tail(all_scores, scores);
      tail(all_w, shown);
      tail(all_r, r);
      tail(all_allowed, allowed);
      rs.push_back(std::move(r));
      ws.push_back(std::move(w));
    }
    s.w = std::move(ws);
    s.r = std::move(rs);
    if (!decode) stale_[c.skip] = s.r;
    out.scores = doubles_of({batch, rows, n}, all_scores);
    out.transition = doubles_of({batch, rows, n}, all_w);
    out.walk = doubles_of({batch, rows, n}, all_r);
    if (!does("ignore_mask")) {
      out.block_allowed = Tensor::of<std::uint8_t>(DType::kU8, {batch, rows, n}, all_allowed);
    }
  }
  std::vector<double> result(at(batch * c.heads * queries * dim), 0.0);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < c.heads; ++h) {
      for (std::int64_t i = 0; i < queries; ++i) {
        std::vector<std::int64_t> seen;
        const auto consider = [&](std::int64_t j) {
          const bool free =
              (dense && does("dense_no_causal") && !given) || (!dense && does("no_token_mask"));
          if (free || allowed_pair(b, h, i, j)) seen.push_back(j);
        };
        if (dense) {
          for (std::int64_t j = 0; j < keys; ++j) consider(j);
        } else {
          for (const std::int32_t block : out.lists.at(b, 0, (past + i) / c.block - first)) {
            for (std::int64_t j = block * c.block; j < std::min(keys, (block + 1) * c.block); ++j) {
              consider(j);
            }
          }
        }
        if (seen.empty()) continue;
        std::vector<double> p;
        double greatest = -HUGE_VAL, sum = 0;
        for (const std::int64_t j : seen) {
          double dot = 0;
          for (std::int64_t d = 0; d < dim; ++d) {
            dot += s.tokens[at(b)][at(past + i)].q[at(h * dim + d)] *
                   s.tokens[at(b)][at(j)].k[at(h / group * dim + d)];
          }
          p.push_back(dot / std::sqrt(static_cast<double>(dim)));
          greatest = std::max(greatest, p.back());
        }
        for (double& x : p) sum += x = std::exp(x - greatest);
        for (std::size_t a = 0; a < seen.size(); ++a) {
          for (std::int64_t d = 0; d < dim; ++d) {
            result[at(((b * c.heads + h) * queries + i) * dim + d)] +=
                p[a] / (does("unnormalised") ? sum + 1 : sum) *
                s.tokens[at(b)][at(seen[a])].v[at(h / group * dim + d)];
          }
        }
      }
    }
  }
  out.out = doubles_of({batch, c.heads, queries, dim}, result);
  return out;
}

SparseCase random_sparse_case(const SparseConfig& config, std::int64_t decode_steps,
                              std::uint64_t seed, double scale) {
  SparseCase out;
  out.where = "random";
  out.config = config;
  out.json.kind = Json::Kind::kObject;
  std::uint64_t stream = 0;
  const auto normal = [&](Shape shape, double by) {
    Tensor t(DType::kF32, shape);
    const Rng rng(seed, stream++);
    std::uint64_t i = 0;
    for (float& x : t.as<float>()) x = static_cast<float>(by * rng.normal(i++));
    return t;
  };
  const std::int64_t tokens = config.length + decode_steps;
  const Shape kv = {config.layers, config.batch, config.kv_heads, tokens, config.head_dim};
  Shape q = kv;
  q[2] = config.heads;
  out.set("q", normal(q, scale));
  out.set("k", normal(kv, scale));
  out.set("v", normal(kv, 1));
  const double projection = 1 / std::sqrt(static_cast<double>(config.sketch));
  out.weights.sketch = normal({config.head_dim, config.sketch}, projection);
  if (config.selector == SparseSelector::kGate) {
    const std::int64_t pools = std::count(config.pool.begin(), config.pool.end(), '+') + 1;
    const Shape gate = {config.heads, pools * config.head_dim, 11};
    const double weight = 1 / std::sqrt(static_cast<double>(gate[1]));
    out.weights.gate_wq = normal(gate, weight);
    out.weights.gate_wk = normal(gate, weight);
  }
  for (std::int64_t s = 0; s < decode_steps; ++s) {
    out.decode.push_back({config.length + s, (config.length + s) / config.block, {}});
  }
  return out;
}

}  // namespace ps
