#include "model/gemm/gemm_plan.h"

#include <algorithm>

namespace ps {
namespace {

// Axes of an attention operand: [row, head, line, cell].
struct Heads {
  std::int64_t rows, heads, lines, cells, row_step, head_step, line_step;
};

Heads heads_of(const Array& x) {
  PS_CHECK(x.ndim() == 4 && (x.stride(3) == 1 || x.size(3) <= 1),
           "attention operand " + x.describe());
  return {x.size(0), x.size(1), x.size(2), x.size(3), x.stride(0), x.stride(1), x.stride(2)};
}

// BLAS wants a leading dimension of at least the rows, also where there is one column and it is
// never used.
std::int64_t leading(std::int64_t step, std::int64_t cells, std::int64_t lines) {
  return lines <= 1 ? std::max<std::int64_t>(cells, 1) : step;
}

// Batches over rows, key/value heads and the query heads that share one. A query of one line has
// its group's heads as lines of one product: decode reads each key once, not once a head.
struct Grouping {
  std::int64_t group;
  bool lines_are_heads;
};
Grouping grouping(const Heads& query_side, const Heads& kv, const Heads& result) {
  PS_CHECK(query_side.rows == kv.rows && result.rows == kv.rows &&
               result.heads == query_side.heads && kv.heads > 0 && query_side.heads % kv.heads == 0,
           "attention operands do not fit");
  return {query_side.heads / kv.heads, query_side.lines == 1};
}

}  // namespace

std::string GemmPlan::describe() const {
  const auto op = [](Transpose t) { return t == Transpose::kYes ? "T" : "N"; };
  std::string text = "gemm " + std::string(op(op_a)) + op(op_b) + " m=" + std::to_string(m) +
                     " n=" + std::to_string(n) + " k=" + std::to_string(k) +
                     " ld=" + std::to_string(lda) + "," + std::to_string(ldb) + "," +
                     std::to_string(ldc) + " batch=" + std::to_string(batches()) + " " +
                     std::string(short_name(type));
  if (type_a != type) text += " A=" + std::string(short_name(type_a));
  if (bias) text += " bias";
  return text;
}

GemmPlan plan_linear(const Array& x, const Array& weight, bool bias, const Array& y) {
  PS_CHECK(x.ndim() == 2 && weight.ndim() == 2 && y.ndim() == 2,
           "a linear layer takes [rows, in], [out, in], [rows, out]");
  const std::int64_t rows = x.size(0), in = x.size(1), out = weight.size(0);
  PS_CHECK(weight.size(1) == in && y.size(0) == rows && y.size(1) == out,
           "linear: " + x.describe() + " by " + weight.describe() + " into " + y.describe());
  return {.op_a = Transpose::kYes,
          .op_b = Transpose::kNo,
          .m = out,
          .n = rows,
          .k = in,
          .lda = leading(weight.stride(0), in, out),
          .ldb = leading(x.stride(0), in, rows),
          .ldc = leading(y.stride(0), out, rows),
          .bias = bias,
          .type_a = weight.dtype(),
          .type = x.dtype()};
}

GemmPlan plan_scores(const Array& q, const Array& k, float scale, const Array& scores) {
  const Heads query = heads_of(q), key = heads_of(k), out = heads_of(scores);
  const Grouping by = grouping(query, key, out);
  PS_CHECK(query.cells == key.cells && out.lines == query.lines && out.cells == key.lines,
           "scores: " + scores.describe());
  GemmPlan plan{.op_a = Transpose::kYes,
                .op_b = Transpose::kNo,
                .m = key.lines,
                .n = query.lines,
                .k = query.cells,
                .lda = leading(key.line_step, key.cells, key.lines),
                .ldb = leading(query.line_step, query.cells, query.lines),
                .ldc = leading(out.line_step, out.cells, out.lines),
                .alpha = scale,
                .type_a = k.dtype(),
                .type = q.dtype()};
  plan.batch = {
      BatchLevel{key.rows, key.row_step, query.row_step, out.row_step},
      BatchLevel{key.heads, key.head_step, by.group * query.head_step, by.group * out.head_step},
      BatchLevel{by.group, 0, query.head_step, out.head_step}};
  if (by.lines_are_heads) {
    plan.n = by.group;
    plan.ldb = leading(query.head_step, query.cells, by.group);
    plan.ldc = leading(out.head_step, out.cells, by.group);
    plan.batch[2] = {};
  }
  return plan;
}

GemmPlan plan_context(const Array& probs, const Array& v, const Array& context) {
  const Heads prob = heads_of(probs), value = heads_of(v), out = heads_of(context);
  const Grouping by = grouping(prob, value, out);
  PS_CHECK(prob.cells == value.lines && out.lines == prob.lines && out.cells == value.cells,
           "context: " + context.describe());
  GemmPlan plan{.op_a = Transpose::kNo,
                .op_b = Transpose::kNo,
                .m = value.cells,
                .n = prob.lines,
                .k = value.lines,
                .lda = leading(value.line_step, value.cells, value.lines),
                .ldb = leading(prob.line_step, prob.cells, prob.lines),
                .ldc = leading(out.line_step, out.cells, out.lines),
                .type_a = v.dtype(),
                .type = probs.dtype()};
  plan.batch = {
      BatchLevel{value.rows, value.row_step, prob.row_step, out.row_step},
      BatchLevel{value.heads, value.head_step, by.group * prob.head_step, by.group * out.head_step},
      BatchLevel{by.group, 0, prob.head_step, out.head_step}};
  if (by.lines_are_heads) {
    plan.n = by.group;
    plan.ldb = leading(prob.head_step, prob.cells, by.group);
    plan.ldc = leading(out.head_step, out.cells, by.group);
    plan.batch[2] = {};
  }
  return plan;
}

GemmPlan folded(GemmPlan plan) {
  const auto fold = [](BatchLevel& outer, BatchLevel& inner) {
    if (inner.count == 1) {
      inner = outer;
      outer = {};
    } else if (outer.count != 1 && outer.stride_a == inner.count * inner.stride_a &&
               outer.stride_b == inner.count * inner.stride_b &&
               outer.stride_c == inner.count * inner.stride_c) {
      inner.count *= outer.count;
      outer = {};
    }
  };
  fold(plan.batch[1], plan.batch[2]);
  fold(plan.batch[0], plan.batch[1]);
  fold(plan.batch[1], plan.batch[2]);
  return plan;
}

GemmExtents extents(const GemmPlan& p) {
  if (p.m == 0 || p.n == 0 || p.batches() == 0) return {};
  std::int64_t a = 0, b = 0, c = 0;
  for (const BatchLevel& level : p.batch) {
    a += (level.count - 1) * level.stride_a;
    b += (level.count - 1) * level.stride_b;
    c += (level.count - 1) * level.stride_c;
  }
  const auto matrix = [](std::int64_t rows, std::int64_t cols, std::int64_t ld) {
    return rows == 0 || cols == 0 ? 0 : rows + (cols - 1) * ld;
  };
  const bool ta = p.op_a == Transpose::kYes, tb = p.op_b == Transpose::kYes;
  return {p.k == 0 ? 0 : a + matrix(ta ? p.k : p.m, ta ? p.m : p.k, p.lda),
          p.k == 0 ? 0 : b + matrix(tb ? p.n : p.k, tb ? p.k : p.n, p.ldb),
          c + matrix(p.m, p.n, p.ldc)};
}

std::optional<std::string> refused(const GemmPlan& p) {
  if (p.m < 0 || p.n < 0 || p.k < 0) return "a negative size";
  if (p.lda < std::max<std::int64_t>(1, p.op_a == Transpose::kYes ? p.k : p.m))
    return "lda is smaller than the rows of A";
  if (p.ldb < std::max<std::int64_t>(1, p.op_b == Transpose::kYes ? p.n : p.k))
    return "ldb is smaller than the rows of B";
  if (p.ldc < std::max<std::int64_t>(1, p.m)) return "ldc is smaller than m";
  for (const BatchLevel& level : p.batch) {
    if (level.count < 0) return "a negative batch";
    if (level.count > 1 && level.stride_c == 0) return "batches share a result";
  }
  return std::nullopt;
}

}  // namespace ps
