// Masks of a step. The softmax reads what the mask kernel wrote, and a tapped mask is that array.
#include "model/forward.h"

namespace ps {
namespace {
constexpr std::int64_t kSmallMask = std::int64_t{1} << 25;  // bytes: built once for all layers
}

void Forward::prepare_masks() {
  key_valid_ = arena_.take(DType::kBool, {batch_, inputs_.keys});
  backend_.upload(inputs_.key_valid.data(), key_valid_);
  full_.prefix = config_.prefix_tokens;
  sliding_ = full_;
  sliding_.window = config_.sliding_window;
  cross_kv_ = {.query_replicas = config_.replicas,
               .key_replicas = config_.replicas,
               .everything = !config_.cross_kv_causal};

  bool any_full = false, any_sliding = false, any_cross_kv = false;
  for (std::size_t i = 0; i < static_cast<std::size_t>(config_.layers); ++i) {
    const bool slides = config_.sliding_window > 0 && config_.sliding_layer[i];
    any_cross_kv = any_cross_kv || config_.cross_kv_layer[i];
    any_sliding = any_sliding || (slides && !config_.cross_kv_layer[i]);
    any_full = any_full || (!slides && !config_.cross_kv_layer[i]);
  }
  const auto prepare = [&](MaskKind& kind, const char* point, bool used) {
    const bool tapped = point != nullptr && (tap_.wants(point) || state_.plant.has_value());
    const std::int64_t rows = tapped && kind.query_replicas == 1 ? rows_ : batch_;
    const bool given = !inputs_.visible.empty();  // from outside: there is nothing to compute
    const bool small = batch_ * queries(kind) * columns(kind) <= kSmallMask;
    if (!tapped && (!used || !(small || given))) return;
    build_whole(kind, rows);
    if (tapped) emit(point, kind.whole);
  };
  // model:mask is the one without a window; where every layer slides, it is theirs.
  const char* sliding_point = any_full ? "model:mask_sliding" : "model:mask";
  prepare(full_, any_full || !any_sliding ? "model:mask" : nullptr, any_full);
  prepare(sliding_, any_sliding ? sliding_point : nullptr, any_sliding);
  prepare(cross_kv_, any_cross_kv ? "model:mask_cross_kv" : nullptr, any_cross_kv);
}

void Forward::build_whole(MaskKind& kind, std::int64_t rows) {
  const std::int64_t plane = queries(kind) * columns(kind);
  const auto given = static_cast<std::int64_t>(inputs_.visible.size());
  const std::int64_t heads = given == 0 ? 1 : given / (batch_ * plane);  // 1, or all of the model
  kind.whole = arena_.take(DType::kBool, {rows, heads, queries(kind), columns(kind)});
  if (given == 0) {
    return run_mask(kind, 0, kind.whole.reshaped({rows, queries(kind), columns(kind)}));
  }
  std::vector<std::uint8_t> all;  // replicas are rows with the same mask
  for (std::int64_t row = 0; row < rows; row += batch_) {
    all.insert(all.end(), inputs_.visible.begin(), inputs_.visible.end());
  }
  backend_.upload(all.data(), kind.whole);
}

// [mask_row, 1 or head, query, col]
Array Forward::mask_block(MaskKind& kind, std::int64_t first, std::int64_t count) {
  if (kind.whole) return kind.whole.narrowed(2, first, count);
  const Array block = arena_.take(DType::kBool, {batch_, count, columns(kind)});
  run_mask(kind, first, block);
  return block.split(0, 1);
}

void Forward::run_mask(const MaskKind& kind, std::int64_t first, const Array& out) {
  const bool opened = state_.options.empty_rows == EmptyRows::kOpened;
  backend_.run(Op::mask, {key_valid_, out},
               {static_cast<double>(inputs_.past), static_cast<double>(kind.prefix),
                static_cast<double>(kind.window), static_cast<double>(tokens_),
                static_cast<double>(first), opened ? 1.0 : 0.0, kind.everything ? 1.0 : 0.0});
}

}  // namespace ps
