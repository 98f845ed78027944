#include "diff/align/ignored_cells.h"

#include <algorithm>

#include "core/points.h"
#include "diff/compare/axes.h"

namespace ps {

IgnoredCells::IgnoredCells(const TraceStep& step) {
  if (step.tensors == nullptr) return;
  if (const TensorView* ids = step.tensors->find("input_ids");
      ids != nullptr && ids->shape.size() == 2) {
    batch_ = ids->shape[0];
    length_ = ids->shape[1];
  }
  if (batch_ == 0 || length_ == 0) return;
  if (const TensorView* mask = step.tensors->find("attention_mask");
      mask != nullptr && mask->shape.size() == 2 && mask->shape[0] == batch_ &&
      mask->shape[1] >= length_) {
    total_ = mask->shape[1];
    for (std::int64_t i = 0; i < mask->count(); ++i) real_.push_back(value_at(*mask, i) != 0);
  }
  const TensorView* mask = step.tensors->find("model:mask");
  if (mask == nullptr || mask->dtype != DType::kBool || mask->shape.size() != 4 ||
      mask->shape[2] != length_) {
    return;
  }
  mask_rows_ = mask->shape[0];
  const std::int64_t heads = mask->shape[1], columns = mask->shape[3];
  empty_.assign(static_cast<std::size_t>(mask_rows_ * length_), true);
  for (std::int64_t r = 0; r < mask_rows_; ++r) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t q = 0; q < length_; ++q) {
        const auto* row = mask->bytes.data() + ((r * heads + h) * length_ + q) * columns;
        const bool sees =
            std::any_of(row, row + columns, [](std::byte cell) { return cell != std::byte{0}; });
        if (sees) empty_[static_cast<std::size_t>(r * length_ + q)] = false;
      }
    }
  }
}

bool IgnoredCells::padding_column(std::int64_t sample, std::int64_t column) const {
  return !real_.empty() && !real_[static_cast<std::size_t>(sample * total_ + column)];
}
bool IgnoredCells::padding_query(std::int64_t sample, std::int64_t token) const {
  return padding_column(sample, total_ - length_ + token);
}
bool IgnoredCells::empty_query(std::int64_t row, std::int64_t token) const {
  if (empty_.empty()) return false;
  const std::int64_t r = mask_rows_ == 1 ? 0 : row % mask_rows_;
  return empty_[static_cast<std::size_t>(r * length_ + token)];
}

std::int64_t IgnoredCells::empty_rows() const {
  std::int64_t sum = 0;
  for (std::int64_t r = 0; r < mask_rows_; ++r) {
    for (std::int64_t q = 0; q < length_; ++q) {
      const bool padding = batch_ > 0 && mask_rows_ % batch_ == 0 && padding_query(r % batch_, q);
      sum += !padding && empty_query(r, q) ? 1 : 0;
    }
  }
  return sum;
}

std::optional<Tensor> IgnoredCells::marks_for(std::string_view point, const Shape& shape) const {
  const std::optional<PointRef> ref = find_point(point);
  const std::vector<std::string_view> symbols = axis_symbols(point, shape);
  if (batch_ == 0 || (real_.empty() && empty_.empty()) || symbols.empty()) return std::nullopt;
  const std::string_view op = ref->spec->op;
  std::ptrdiff_t rows_axis = -1, token_axis = -1;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    const auto axis = static_cast<std::ptrdiff_t>(i);
    if (symbols[i].ends_with("R") || symbols[i].ends_with("B")) rows_axis = axis;
    if (symbols[i].ends_with("S") && symbols[i] != "P*S") token_axis = axis;
  }
  const bool slots = op == "cache_append";
  if (slots) token_axis = 2;
  if (rows_axis < 0 || token_axis < 0) return std::nullopt;
  const std::int64_t rows = shape[static_cast<std::size_t>(rows_axis)];
  const std::int64_t tokens = shape[static_cast<std::size_t>(token_axis)];
  if (rows % batch_ != 0 || rows == 0) return std::nullopt;
  const std::int64_t prefix = slots ? tokens - total_ : 0;
  // Logits of the last position alone.
  const std::int64_t first = slots ? 0 : length_ - tokens;
  if (prefix < 0 || first < 0 || (!slots && tokens != length_ && op != "linear")) {
    return std::nullopt;
  }
  if (slots && real_.empty()) return std::nullopt;
  // A row without a key is a convention from the first attention on.
  const bool attended =
      !slots && op != "mask" && op != "scores" && op != "rope_table" &&
      (ref->layer > 0 ||
       (ref->layer == 0 &&
        !point_before(point, point_name(*find_point("model.layers.0.self_attn:probs")->spec, 0))) ||
       (ref->layer < 0 && point_before("model.layers.0", point)));
  Shape small(shape.size(), 1);
  small[static_cast<std::size_t>(rows_axis)] = rows;
  small[static_cast<std::size_t>(token_axis)] = tokens;
  Tensor marks(DType::kU8, small);
  const std::span<std::uint8_t> cells = marks.as<std::uint8_t>();
  bool any = false;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      bool ignored = false;
      if (slots) {
        ignored = t >= prefix && padding_column(r % batch_, t - prefix);
      } else {
        const std::int64_t token = first + t;
        ignored = padding_query(r % batch_, token) || (attended && empty_query(r, token));
      }
      cells[static_cast<std::size_t>(r * tokens + t)] = ignored ? 1 : 0;  // rows come first
      any = any || ignored;
    }
  }
  if (!any) return std::nullopt;
  return marks;
}

}  // namespace ps
