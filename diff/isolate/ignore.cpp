#include "diff/isolate/ignore.h"

#include <algorithm>

#include "core/text.h"

namespace ps {

namespace {

bool is_attention_row(std::string_view op) { return op == "probs" || op == "context"; }

}  // namespace

IgnoreRules::IgnoreRules(const ModelConfig& config, const StepInputs& inputs, std::int64_t past)
    : config_(config), inputs_(inputs), past_(past), prefix_(config.prefix_tokens) {
  const std::int64_t total = past_ + inputs_.length;
  first_real_.assign(static_cast<std::size_t>(inputs_.batch), 0);
  if (inputs_.visible) {
    read_visible();
    return;
  }
  if (!inputs_.attention_mask) return;
  for (std::int64_t b = 0; b < inputs_.batch; ++b) {
    const auto row = inputs_.attention_mask->begin() + b * total;
    first_real_[static_cast<std::size_t>(b)] = std::find(row, row + total, 1) - row;
    for (std::int64_t t = 0; t < inputs_.length; ++t) empty_rows_ += empty_query(b, t) ? 1 : 0;
  }
}

// A mask from outside says alone who sees nothing.
void IgnoreRules::read_visible() {
  const std::int64_t columns = prefix_ + past_ + inputs_.length;
  const auto& cells = *inputs_.visible;
  const auto lines = static_cast<std::int64_t>(cells.size()) / columns;
  blind_heads_ = lines / (inputs_.batch * inputs_.length);
  std::vector<bool> blind;
  for (std::int64_t line = 0; line < lines; ++line) {
    const auto row = cells.begin() + line * columns;
    blind.push_back(std::find_if(row, row + columns, [](std::int64_t c) { return c != 0; }) ==
                    row + columns);
  }
  for (std::int64_t b = 0; b < inputs_.batch; ++b) {
    for (std::int64_t t = 0; t < inputs_.length; ++t) {
      bool all = true;
      for (std::int64_t h = 0; h < blind_heads_; ++h) {
        all = all && blind[static_cast<std::size_t>((b * blind_heads_ + h) * inputs_.length + t)];
      }
      empty_rows_ += all ? 1 : 0;
    }
  }
  if (std::find(blind.begin(), blind.end(), true) != blind.end()) blind_ = std::move(blind);
}

// Rows of probs [R,H,S,C] and context [R,S,H*D] in which a mask from outside shows nothing.
std::optional<Tensor> IgnoreRules::blind_rows(std::string_view op, const Shape& shape) const {
  const bool probs = op == "probs" && shape.size() == 4 && shape[2] == inputs_.length;
  const bool context = op == "context" && shape.size() == 3 && shape[1] == inputs_.length;
  if (blind_.empty() || !(probs || context)) return std::nullopt;
  const std::int64_t heads = probs ? shape[1] : config_.heads;
  const bool fits = heads % blind_heads_ == 0 && shape[0] % inputs_.batch == 0 &&
                    (probs || shape[2] % heads == 0);
  if (!fits) return std::nullopt;
  const std::int64_t width = context ? shape[2] / heads : 1;
  const std::int64_t per_row = heads * inputs_.length * width;
  Tensor mask(DType::kU8, probs ? Shape{shape[0], heads, inputs_.length, 1} : shape);
  auto cells = mask.as<std::uint8_t>();
  for (std::int64_t i = 0; i < shape[0] * per_row; ++i) {
    const std::int64_t b = i / per_row % inputs_.batch;
    const std::int64_t h = (probs ? i / inputs_.length : i / width) % heads;
    const std::int64_t t = (probs ? i : i / (heads * width)) % inputs_.length;
    const std::int64_t line = (b * blind_heads_ + h % blind_heads_) * inputs_.length + t;
    cells[static_cast<std::size_t>(i)] = blind_[static_cast<std::size_t>(line)] ? 1 : 0;
  }
  return mask;
}

bool IgnoreRules::padding_column(std::int64_t sample, std::int64_t column) const {
  if (!inputs_.attention_mask) return false;
  const std::int64_t total = past_ + inputs_.length;
  return (*inputs_.attention_mask)[static_cast<std::size_t>(sample * total + column)] == 0;
}
bool IgnoreRules::padding_query(std::int64_t sample, std::int64_t token) const {
  return padding_column(sample, past_ + token);
}
bool IgnoreRules::empty_query(std::int64_t sample, std::int64_t token) const {
  return prefix_ == 0 && first_real_[static_cast<std::size_t>(sample)] > past_ + token;
}

// A softmax over one key gives 1 whatever its score.
bool IgnoreRules::one_key(std::int64_t sample, std::int64_t token) const {
  return prefix_ == 0 && past_ + token == first_real_[static_cast<std::size_t>(sample)];
}

std::optional<Tensor> IgnoreRules::mask_for(std::string_view point, const Shape& shape) const {
  const std::optional<PointRef> ref = find_point(canonical_point(point));
  if (!ref) return std::nullopt;
  // What is no row of attention is a value like any other: a mask from outside knows no padding.
  if (inputs_.visible) return blind_rows(ref->spec->op, shape);
  // In cross-KV layers each query sees the other replicas' keys too.
  const bool scores = ref->spec->op == "scores" && shape.size() == 4 && shape[2] == inputs_.length;
  if (!inputs_.attention_mask && !scores) return std::nullopt;
  const std::vector<std::string> axes = split_at(ref->spec->axes, ',');
  if (axes.size() != shape.size()) return std::nullopt;
  // The axis of samples (alone or inside replica-major rows), of query tokens, of cache slots.
  std::ptrdiff_t sample_axis = -1, query_axis = -1, slot_axis = -1;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<std::ptrdiff_t>(i);
    if (axes[i].ends_with("R") || axes[i] == "B") sample_axis = axis;
    if (axes[i] == "S" || axes[i] == "1|S") query_axis = axis;
    if (axes[i] == "C" && ref->spec->op == "cache_append") slot_axis = axis;
  }
  const std::ptrdiff_t token_axis = query_axis >= 0 ? query_axis : slot_axis;
  if (sample_axis < 0 || token_axis < 0) return std::nullopt;
  const std::int64_t rows = shape[static_cast<std::size_t>(sample_axis)];
  const std::int64_t tokens = shape[static_cast<std::size_t>(token_axis)];
  if (rows % inputs_.batch != 0) return std::nullopt;
  // Slots of a cache: the prefix first, where there is one.
  const std::int64_t skipped = slot_axis >= 0 ? tokens - (past_ + inputs_.length) : 0;
  // Cross-KV layers hold the queries of all replicas side by side: p*S + t.
  const bool queries_fit = tokens == inputs_.length || tokens == config_.replicas * inputs_.length;
  if (skipped < 0 || (query_axis >= 0 && !queries_fit)) return std::nullopt;

  Shape small(shape.size(), 1);
  small[static_cast<std::size_t>(sample_axis)] = rows;
  small[static_cast<std::size_t>(token_axis)] = tokens;
  Tensor mask(DType::kU8, small);
  bool any = false;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t b = r % inputs_.batch;
    for (std::int64_t t = 0; t < tokens; ++t) {
      bool ignored = false;
      if (slot_axis >= 0) {
        ignored = t >= skipped && padding_column(b, t - skipped);
      } else {
        const std::int64_t token = t % inputs_.length;
        ignored = padding_query(b, token) || (scores && one_key(b, token)) ||
                  (is_attention_row(ref->spec->op) && empty_query(b, token));
      }
      // Rows come before tokens in every point of the table, so this is row-major.
      mask.as<std::uint8_t>()[static_cast<std::size_t>(r * tokens + t)] = ignored ? 1 : 0;
      any = any || ignored;
    }
  }
  if (!any) return std::nullopt;
  return mask;
}

}  // namespace ps
