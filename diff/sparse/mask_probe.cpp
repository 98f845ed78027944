#include "diff/sparse/mask_probe.h"

#include <algorithm>
#include <map>

#include "diff/sparse/masks.h"
#include "diff/sparse/probe_questions.h"

namespace ps {

namespace {

using mask::Dims;
using mask::Node;
using mask::Op;
using mask::Program;

// What one (step, layer) has shown so far.
struct Seen {
  Dims dims;
  BlockLists lists;
  std::vector<bool> cells;
};
using AllSeen = std::map<std::pair<std::int64_t, std::int64_t>, Seen>;

// Values of tokens [begin, end): one-hot for those of [group, group + D).
Tensor one_hot(const SparseConfig& c, std::int64_t begin, std::int64_t end, std::int64_t group) {
  Tensor out(DType::kF32, {c.batch, c.kv_heads, end - begin, c.head_dim});
  auto cells = out.as<float>();
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const std::int64_t token = begin + at / c.head_dim % (end - begin);
    cells[i] = token - group == at % c.head_dim ? 1.F : 0.F;
  }
  return out;
}

Result<void> note(const SparseConfig& c, const SparseLayer& layer, std::int64_t queries,
                  std::int64_t keys, std::int64_t group, Seen& seen) {
  const Shape expected = {c.batch, c.heads, queries, c.head_dim};
  if (layer.out.shape() != expected) {
    return bad_input("out", "has another shape than the queries", to_string(expected),
                     to_string(layer.out.shape()));
  }
  seen.dims = {c.batch, c.heads, queries, keys};
  seen.lists = layer.lists;
  seen.cells.resize(static_cast<std::size_t>(c.batch * c.heads * queries * keys));
  const TensorView out = layer.out.view();
  for (std::int64_t i = 0; i < out.count(); ++i) {
    const std::int64_t key = group + i % c.head_dim;
    // NaN is not 0: such a row says nothing about its keys and counts as seen.
    if (key >= keys || value_at(out, i) == 0) continue;
    seen.cells[static_cast<std::size_t>(i / c.head_dim * keys + key)] = true;
  }
  return {};
}

// The whole case once; which values are one-hot is `group`.
Result<void> play(const SparseCase& base, const std::optional<Tensor>& token_mask,
                  SparseEngine& engine, std::int64_t group, AllSeen& all) {
  const SparseConfig& c = base.config;
  engine.reset();
  const Tensor v = one_hot(c, 0, c.length, group);
  for (std::int64_t l = 0; l < c.layers; ++l) {
    PS_TRY(const Tensor q, base.tokens("q", l, 0, c.length));
    PS_TRY(const Tensor k, base.tokens("k", l, 0, c.length));
    SparseInputs in{q.view(), k.view(), v.view(), std::nullopt};
    if (token_mask) in.mask = token_mask->view();
    PS_TRY(const SparseLayer layer, engine.prefill(l, in));
    PS_TRY_VOID(note(c, layer, c.length, c.length, group, all[{0, l}]));
  }
  for (std::size_t s = 0; s < base.decode.size(); ++s) {
    const std::int64_t at = base.decode[s].position;
    const Tensor fresh = one_hot(c, at, at + 1, group);
    for (std::int64_t l = 0; l < c.layers; ++l) {
      PS_TRY(const Tensor q, base.tokens("q", l, at, at + 1));
      PS_TRY(const Tensor k, base.tokens("k", l, at, at + 1));
      PS_TRY(const SparseLayer layer,
             engine.decode(l, {q.view(), k.view(), fresh.view(), std::nullopt}));
      const auto step = static_cast<std::int64_t>(s) + 1;
      PS_TRY_VOID(note(c, layer, 1, at + 1, group, all[{step, l}]));
    }
  }
  return {};
}

Node dense(Program& p, const char* name, const char* tag, std::int64_t heads,
           const std::vector<std::uint8_t>& cells) {
  mask::Array array{name, {p.dims.B, heads, p.dims.Q, p.dims.KV}, {}};
  array.data.assign(cells.begin(), cells.end());
  p.arrays.push_back(std::move(array));
  return {Op::kDense, tag, {}, {static_cast<int>(p.arrays.size()) - 1}, {}, {}, -1, {}};
}

// Tokens of the prefill that its last query may attend stay visible to what is decoded.
std::vector<std::uint8_t> token_cells(const PairMask& tokens, const Dims& d) {
  if (d.Q == tokens.queries && d.KV == tokens.keys) return tokens.cells;
  std::vector<std::uint8_t> out;
  for (std::int64_t b = 0; b < d.B; ++b) {
    for (std::int64_t h = 0; h < tokens.heads; ++h) {
      for (std::int64_t j = 0; j < d.KV; ++j) {
        out.push_back(j >= tokens.keys || tokens.at(b, h, tokens.queries - 1, j) ? 1 : 0);
      }
    }
  }
  return out;
}

Program expected_of(const SparseConfig& c, const std::optional<PairMask>& tokens,
                    const Seen& seen) {
  Program p;
  p.dims = seen.dims;
  p.q_offset = {seen.dims.KV - seen.dims.Q};
  std::vector<Node> clauses;
  const bool decode = seen.dims.KV > c.length;
  if (c.causal || decode) {
    clauses.push_back({Op::kCausal, "future", {{{}, 0}}, {}, {}, {}, -1, {}});
  }
  if (tokens) {
    clauses.push_back(dense(p, "tokens", "padding", tokens->heads, token_cells(*tokens, p.dims)));
  }
  if (!seen.lists.empty()) {
    PairMask everything(c.batch, c.heads, p.dims.Q, p.dims.KV);
    std::fill(everything.cells.begin(), everything.cells.end(), std::uint8_t{1});
    clauses.push_back(
        dense(p, "selected", "block", c.heads, inside(everything, seen.lists, c.block).cells));
  }
  p.expr = {Op::kAnd, "", {}, {}, {}, {}, -1, std::move(clauses)};
  return p;
}

}  // namespace

Result<std::vector<SparseProbedMask>> probe_sparse_masks(const SparseCase& base,
                                                         SparseEngine& engine) {
  const SparseConfig& c = base.config;
  PS_TRY(const std::optional<Tensor> given, mask_argument(base));
  std::optional<PairMask> tokens;
  if (given) {
    PS_TRY(tokens, pair_mask(c, given->view(), c.length, c.length, "token_mask"));
  }
  std::int64_t total = c.length;
  for (const SparseDecodeStep& step : base.decode) total = std::max(total, step.position + 1);
  AllSeen all;
  for (std::int64_t group = 0; group < total; group += c.head_dim) {
    PS_TRY_VOID(play(base, given, engine, group, all));
  }
  std::vector<SparseProbedMask> out;
  for (const auto& [at, seen] : all) {
    SparseProbedMask probed;
    probed.step = at.first;
    probed.layer = at.second;
    probed.dense = seen.lists.empty();
    probed.applied = mask::mask_from_cells(
        seen.dims, [&](std::int64_t i) { return seen.cells[static_cast<std::size_t>(i)]; });
    probed.expected = expected_of(c, tokens, seen);
    out.push_back(std::move(probed));
  }
  return out;
}

}  // namespace ps
