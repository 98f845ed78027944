#include "diff/mask/check.h"

#include <algorithm>

namespace ps::mask {

namespace {

const Node kSelf{Op::kWindow, "", {{{}, 0}, {{}, 0}}, {}, {}, {}, -1, {}};  // k == q

Topic topic_of_tag(const std::string& tag) {
  if (tag == "future") return Topic::kFuture;
  if (tag == "padding") return Topic::kPadding;
  if (tag == "segment") return Topic::kSegment;
  if (tag == "window" || tag == "block") return Topic::kWindow;
  return Topic::kOther;
}

// The first op inside that has a topic. A causal clause with an exception (a prefix) is causal.
Topic topic_of_ops(const Program& program, const Node& node) {
  switch (node.op) {
    case Op::kCausal:
      return Topic::kFuture;
    case Op::kKvRange:
    case Op::kKeyValid:
    case Op::kQueryValid:
      return Topic::kPadding;
    case Op::kSameSegment:
    case Op::kSameId:
    case Op::kRole:
      return Topic::kSegment;
    case Op::kWindow:
    case Op::kChunk:
    case Op::kBlocks:
    case Op::kDense:
      return Topic::kWindow;
    case Op::kRef:
      return topic_of_ops(program, resolved(program, node));
    default:
      break;
  }
  Topic best = Topic::kOther;
  for (const Node& arg : node.args) best = std::min(best, topic_of_ops(program, arg));
  return best;
}

}  // namespace

Cells cells_of(const Mask& mask) { return {mask.count(), mask.first()}; }

Result<Expected> Expected::of(Program program) {
  Expected out;
  out.program_ = std::make_shared<const Program>(std::move(program));
  const Program& p = *out.program_;
  PS_TRY(out.mask_, evaluate(p));
  const auto add = [&](const Node& node) -> Result<void> {
    Clause clause;
    clause.node = &node;
    clause.tag = node.tag.empty() ? resolved(p, node).tag : node.tag;
    clause.topic = topic_of_tag(clause.tag);
    if (clause.topic == Topic::kOther) clause.topic = topic_of_ops(p, node);
    PS_TRY(clause.mask, evaluate(p, node));
    out.clauses_.push_back(std::move(clause));
    return {};
  };
  const Node& top = resolved(p, p.expr);
  const bool clauses_inside =
      top.op == Op::kAnd &&
      (p.expr.tag.empty() ||
       std::any_of(top.args.begin(), top.args.end(), [](const Node& n) { return !n.tag.empty(); }));
  if (!clauses_inside) {
    PS_TRY_VOID(add(p.expr));
    return out;
  }
  for (const Node& arg : top.args) PS_TRY_VOID(add(arg));
  return out;
}

Result<Comparison> compare(const Expected& expected, const Mask& actual) {
  Comparison out;
  const Mask leak = combine(actual, expected.mask(), SetOp::kMinus);
  const Mask hidden = combine(expected.mask(), actual, SetOp::kMinus);
  out.leak = cells_of(leak);
  out.hidden = cells_of(hidden);
  PS_TRY(const Mask self, evaluate(expected.program(), kSelf));
  out.self_hidden = cells_of(combine(hidden, self, SetOp::kAnd));
  for (const Clause& clause : expected.clauses()) {
    if (clause.tag.empty()) continue;
    out.leak_by_tag.emplace_back(clause.tag, cells_of(combine(leak, clause.mask, SetOp::kMinus)));
  }
  out.empty_rows = actual.empty_rows();
  out.first_empty_row = actual.first_empty_row();
  PS_TRY(out.hypotheses, matching_hypotheses(expected, actual));
  return out;
}

Result<std::vector<std::string>> matching_hypotheses(const Expected& expected, const Mask& actual) {
  const Program& p = expected.program();
  const Dims& d = p.dims;
  std::vector<std::string> out;
  const auto test = [&](const std::string& name, const Mask& guess) {
    if (equal(guess, actual)) out.push_back(name);
  };
  test("equal", expected.mask());
  test("inverted", complement(expected.mask()));
  test("mask_ignored", filled(d, true));
  test("all_masked", filled(d, false));
  if (d.Q == d.KV) test("transposed", transposed(expected.mask()));
  const Node causal{Op::kCausal, "", {{{}, 0}}, {}, {}, {}, -1, {}};
  PS_TRY(const Mask plain, evaluate(p, causal));
  test("causal_only", plain);
  for (const std::int64_t s : {-2, -1, 1, 2}) {
    const Node moved{Op::kShift, "", {{{}, s}, {{}, 0}}, {}, {}, {}, -1, {p.expr}};
    PS_TRY(const Mask guess, evaluate(p, moved));
    test(std::string("query_shift") + (s > 0 ? "+" : "") + std::to_string(s), guess);
  }
  if (std::any_of(p.q_offset.begin(), p.q_offset.end(), [](std::int64_t o) { return o != 0; })) {
    Program top_left = p;
    top_left.q_offset = {0};
    PS_TRY(const Mask guess, evaluate(top_left));
    test("top_left_aligned", guess);
  }
  return out;
}

}  // namespace ps::mask
