// The mask that a probed layer should apply, as a program.
#include "diff/mask/probe.h"

namespace ps::mask {

namespace {

// Query p*S + t is token past + t; column p'*K + j is key j of replica p', or of any.
Program cross_kv_program(const ModelConfig& c, const StepInputs& prompt, const ProbedMask& at) {
  Program p;
  p.dims = at.mask.dims();
  p.expr = {Op::kAll, "", {}, {}, {}, {}, -1, {}};
  if (!c.cross_kv_causal) return p;
  const std::int64_t length = p.dims.Q / c.replicas, keys = at.past + length;
  Array query{"query", {p.dims.Q}, {}}, key{"key", {p.dims.KV}, {}};
  for (std::int64_t q = 0; q < p.dims.Q; ++q) query.data.push_back(at.past + q % length);
  for (std::int64_t k = 0; k < p.dims.KV; ++k) key.data.push_back(k % keys);
  p.arrays = {std::move(query), std::move(key)};
  const auto moved = [](Node node) {
    const std::string tag = node.tag;
    return Node{Op::kRemap, tag, {}, {0, 1}, {}, {}, -1, {std::move(node)}};
  };
  std::vector<Node> clauses = {moved({Op::kCausal, "future", {{{}, 0}}, {}, {}, {}, -1, {}})};
  if (prompt.attention_mask) {
    Array valid{"valid", {p.dims.B, keys}, {}};
    for (std::int64_t b = 0; b < p.dims.B; ++b) {
      for (std::int64_t t = 0; t < keys; ++t) {
        const auto cell = static_cast<std::size_t>(b * prompt.length + t);
        valid.data.push_back(t >= prompt.length || (*prompt.attention_mask)[cell] != 0 ? 1 : 0);
      }
    }
    p.arrays.push_back(std::move(valid));
    clauses.push_back(moved({Op::kKeyValid, "padding", {}, {2}, {}, {}, -1, {}}));
  }
  p.expr = {Op::kAnd, "", {}, {}, {}, {}, -1, std::move(clauses)};
  return p;
}

// The blocks of keys that the layer says it selected for each block of queries.
Node selected_blocks(Program& p, const ProbedMask& at) {
  const Shape& s = at.blocks_shape;  // [row, 1 or head, query block, block]
  const std::int64_t first = at.past / at.block_size, n = s[3];
  Array keep{"selected", {s[0], s[1], first + s[2], n}, {}};
  for (std::int64_t plane = 0; plane < s[0] * s[1]; ++plane) {
    keep.data.insert(keep.data.end(), static_cast<std::size_t>(first * n), 0);
    const auto from = at.blocks.begin() + plane * s[2] * n;
    keep.data.insert(keep.data.end(), from, from + s[2] * n);
  }
  p.arrays.push_back(std::move(keep));
  const Scalar size{{}, at.block_size};
  return {Op::kBlocks, "block", {size, size}, {static_cast<int>(p.arrays.size()) - 1},
          {},          {},      -1,           {}};
}

}  // namespace

Program expected_program(const ModelConfig& c, const StepInputs& prompt, const ProbedMask& at) {
  if (at.cross_kv) return cross_kv_program(c, prompt, at);
  Program p;
  p.dims = at.mask.dims();
  p.q_offset = {at.past};
  std::vector<Node> clauses;
  Node causal{Op::kCausal, "future", {{{}, 0}}, {}, {}, {}, -1, {}};
  clauses.push_back(std::move(causal));
  if (c.sliding_window > 0 && c.sliding_layer[static_cast<std::size_t>(at.layer)]) {
    const Scalar unbounded{Scalar::Kind::kUnbounded, 0};
    clauses.push_back(
        {Op::kWindow, "window", {{{}, c.sliding_window - 1}, unbounded}, {}, {}, {}, -1, {}});
  }
  if (prompt.attention_mask) {
    const std::int64_t keys = p.dims.KV - c.prefix_tokens;
    Array valid{"valid", {p.dims.B, keys}, {}};
    for (std::int64_t row = 0; row < p.dims.B; ++row) {
      for (std::int64_t t = 0; t < keys; ++t) {
        const std::int64_t b = row % prompt.batch;
        valid.data.push_back(
            t >= prompt.length ||
                    (*prompt.attention_mask)[static_cast<std::size_t>(b * prompt.length + t)] != 0
                ? 1
                : 0);
      }
    }
    p.arrays.push_back(std::move(valid));
    clauses.push_back({Op::kKeyValid, "padding", {}, {0}, {}, {}, -1, {}});
  }
  if (at.block_size > 0) clauses.push_back(selected_blocks(p, at));
  if (c.prefix_tokens > 0) {  // every clause lets the prefix pass, so that leaks keep their names
    for (Node& clause : clauses) {
      Node prefix{Op::kKvRange, "prefix", {{{}, 0}, {{}, c.prefix_tokens}}, {}, {}, {}, -1, {}};
      Node moved{Op::kShift, "", {{{}, 0}, {{}, -c.prefix_tokens}}, {}, {}, {}, -1, {clause}};
      clause = {Op::kOr, clause.tag, {}, {}, {}, {}, -1, {std::move(prefix), std::move(moved)}};
    }
  }
  p.expr = {Op::kAnd, "", {}, {}, {}, {}, -1, std::move(clauses)};
  return p;
}

}  // namespace ps::mask
