#include <algorithm>
#include <functional>
#include <string>

#include "diff/lint/trace_checks.h"
#include "diff/report/report.h"

namespace ps {

namespace {

// One cell of a mask [1|R, 1|H, S, C]: row of the batch, query, column (the prefix first).
using Rule = std::function<bool(std::int64_t b, std::int64_t i, std::int64_t j)>;

struct Hypothesis {
  const char* id;
  const char* message;
  const char* fix;
  Rule rule;
};

struct Walk {
  const TensorView& mask;
  const StepInputs& in;
  std::int64_t past, columns;

  bool real(std::int64_t b, std::int64_t column) const {  // column: without the prefix
    return !in.attention_mask ||
           (*in.attention_mask)[static_cast<std::size_t>(b * (past + in.length) + column)] == 1;
  }
  // The first cell at which the mask and the rule differ, in rows of real tokens; -1 if none.
  std::int64_t first_difference(const Rule& rule) const {
    const std::int64_t heads = mask.shape[1], length = mask.shape[2];
    for (std::int64_t r = 0; r < mask.shape[0]; ++r) {
      const std::int64_t b = r % in.batch;
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t i = 0; i < length; ++i) {
          if (!real(b, past + i)) continue;
          const std::int64_t row = ((r * heads + h) * length + i) * columns;
          for (std::int64_t j = 0; j < columns; ++j) {
            const bool sees = mask.bytes[static_cast<std::size_t>(row + j)] != std::byte{0};
            if (sees != rule(b, i, j)) return row + j;
          }
        }
      }
    }
    return -1;
  }
};

// The trace says itself who may see whom: no rule of the model counts.
std::optional<Finding> against_given(const TensorView& mask, const StepInputs& in,
                                     std::int64_t columns) {
  const std::int64_t rows = mask.shape[0], heads = mask.shape[1], length = mask.shape[2];
  const auto given_heads =
      static_cast<std::int64_t>(in.visible->size()) / (in.batch * length * columns);
  for (std::int64_t i = 0; i < mask.count(); ++i) {
    const std::int64_t j = i % columns, t = i / columns % length;
    const std::int64_t h = i / (columns * length) % heads, r = i / (columns * length * heads);
    // One head for all, on either side: it must be each of the other's.
    for (std::int64_t g = heads == 1 ? 0 : h % given_heads;
         g < (heads == 1 ? given_heads : h % given_heads + 1); ++g) {
      const std::int64_t cell = ((r % in.batch * given_heads + g) * length + t) * columns + j;
      const bool may = (*in.visible)[static_cast<std::size_t>(cell)] != 0;
      if (may == (mask.bytes[static_cast<std::size_t>(i)] != std::byte{0})) continue;
      Finding f;
      f.id = "mask-differs";
      f.fault_class = "mask";
      f.confidence = Confidence::kUnnamed;
      f.where = "row=" + std::to_string(r) + " of " + std::to_string(rows) +
                " head=" + std::to_string(h) + " query=" + std::to_string(t) +
                " column=" + std::to_string(j);
      f.message = may ? "a pair is hidden that the mask which the run was given allows"
                      : "a pair is attended that the mask which the run was given forbids";
      return f;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Finding> mask_finding(const TensorView& mask, const StepInputs& in,
                                    const ModelConfig& c, std::int64_t past) {
  const std::int64_t t = c.prefix_tokens, columns = t + past + in.length;
  const bool fits = mask.dtype == DType::kBool && mask.shape.size() == 4 &&
                    mask.shape[2] == in.length && mask.shape[3] == columns &&
                    mask.shape[0] % in.batch == 0;
  if (!fits && !(mask.dtype == DType::kBool && mask.shape.size() == 4 && mask.shape[0] == 1 &&
                 mask.shape[2] == in.length && mask.shape[3] == columns && !in.attention_mask)) {
    return std::nullopt;
  }
  if (in.visible) return against_given(mask, in, columns);
  const Walk walk{mask, in, past, columns};
  const bool all_slide =
      c.sliding_window > 0 &&
      std::find(c.sliding_layer.begin(), c.sliding_layer.end(), false) == c.sliding_layer.end();
  // The parts of the right rule. `at`: a column's token, counted without the prefix.
  const auto prefix = [=](std::int64_t j) { return j < t; };
  const auto causal = [=](std::int64_t i, std::int64_t at) { return at <= past + i; };
  const auto window = [=](std::int64_t i, std::int64_t at, std::int64_t width) {
    return !all_slide || at > past + i - width;
  };
  const std::int64_t w = c.sliding_window;
  const Rule right = [&](std::int64_t b, std::int64_t i, std::int64_t j) {
    return prefix(j) || (causal(i, j - t) && window(i, j - t, w) && walk.real(b, j - t));
  };
  const std::int64_t wrong = walk.first_difference(right);
  if (wrong < 0) return std::nullopt;
  const Hypothesis all[] = {
      {"mask-causal-topleft-alignment",
       "the causal triangle is aligned to the top left corner although there are more keys than "
       "queries",
       "align it to the last key: query i of S sees keys up to T + past + i",
       [&](std::int64_t b, std::int64_t i, std::int64_t j) {
         return j <= i && (prefix(j) || walk.real(b, j - t));
       }},
      {"mask-causal-skipped-with-cache", "no causal mask is applied: queries see later tokens",
       "build the causal mask in every step with more than one new token",
       [&](std::int64_t b, std::int64_t, std::int64_t j) {
         return prefix(j) || walk.real(b, j - t);
       }},
      {"mask-padding-ignored", "padding tokens are attended",
       "and the attention mask into the causal mask",
       [&](std::int64_t, std::int64_t i, std::int64_t j) {
         return prefix(j) || (causal(i, j - t) && window(i, j - t, w));
       }},
      {"mask-polarity-inverted", "what may be attended is hidden, and the reverse",
       "true means 'may attend'",
       [&](std::int64_t b, std::int64_t i, std::int64_t j) { return !right(b, i, j); }},
      {"mask-causal-sees-next-token", "each query sees the token after it as well",
       "a query at i sees keys j <= i",
       [&](std::int64_t b, std::int64_t i, std::int64_t j) {
         return prefix(j) || (j - t <= past + i + 1 && window(i, j - t, w) && walk.real(b, j - t));
       }},
      {"mask-causal-hides-self", "each query is kept from its own token",
       "a query at i sees keys j <= i, itself included",
       [&](std::int64_t b, std::int64_t i, std::int64_t j) {
         return right(b, i, j) && j - t != past + i;
       }},
      {"mask-prefix-appended", "the prefix columns stand behind the tokens instead of before them",
       "put the prefix columns first",
       [&](std::int64_t b, std::int64_t i, std::int64_t j) {
         return j >= columns - t || right(b, i, j + t);
       }},
      {"mask-window-missing", "the sliding window is ignored: old keys stay visible",
       "apply the window",
       [&](std::int64_t b, std::int64_t i, std::int64_t j) {
         return prefix(j) || (causal(i, j - t) && walk.real(b, j - t));
       }},
      {"mask-window-off-by-one", "the sliding window is one key too wide",
       "a query at i sees keys j > i - window",
       [&](std::int64_t b, std::int64_t i, std::int64_t j) {
         return prefix(j) || (causal(i, j - t) && window(i, j - t, w + 1) && walk.real(b, j - t));
       }},
      {"mask-window-off-by-one", "the sliding window is one key too narrow",
       "a query at i sees keys j > i - window",
       [&](std::int64_t b, std::int64_t i, std::int64_t j) {
         return prefix(j) || (causal(i, j - t) && window(i, j - t, w - 1) && walk.real(b, j - t));
       }},
  };
  Finding f;
  f.fault_class = "mask";
  f.where = "row=" + std::to_string(wrong / columns / mask.shape[2] / mask.shape[1]) +
            " query=" + std::to_string(wrong / columns % mask.shape[2]) +
            " column=" + std::to_string(wrong % columns);
  for (const Hypothesis& h : all) {
    if (walk.first_difference(h.rule) >= 0) continue;
    f.id = h.id;
    f.message = h.message;
    f.fix = h.fix;
    return f;
  }
  f.id = "mask-differs";
  f.severity = Severity::kWarning;  // another pattern may be meant
  f.confidence = Confidence::kUnnamed;
  f.message = mask.bytes[static_cast<std::size_t>(wrong)] != std::byte{0}
                  ? "a query sees a cell that is its future, padding or beyond the window"
                  : "a query is kept from a cell that it should see";
  return f;
}

}  // namespace ps
