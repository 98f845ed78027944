#include "reference/weights.h"

#include "reference/bridge.h"

namespace ps::reference {

namespace {
constexpr std::int64_t kKeepBytes = std::int64_t{1}
                                    << 28;  // of widened tensors, kept for the next use
constexpr std::int64_t kWholeBytes = std::int64_t{1} << 24;  // widened as a whole up to here
constexpr std::int64_t kPieceBytes = std::int64_t{1} << 23;

// f(rows of W in x's type), piece by piece along the outputs, joined on the last axis. The pieces
// share one buffer: fresh memory for each was measured to cost more than the arithmetic, and left
// gigabytes behind in the allocator. f may overwrite its piece.
template <class F>
at::Tensor by_pieces(const at::Tensor& x, const at::Tensor& w, F f) {
  const std::int64_t columns = w.size(1);
  const std::int64_t row = columns * static_cast<std::int64_t>(x.element_size());
  const std::int64_t rows = std::max<std::int64_t>(1, kPieceBytes / row);
  const at::Tensor buffer = at::empty({std::min(rows, w.size(0)), columns}, x.options());
  std::vector<std::int64_t> shape(x.sizes().begin(), x.sizes().end());
  shape.back() = w.size(0);
  at::Tensor out = at::empty(shape, x.options());
  for (std::int64_t begin = 0; begin < w.size(0); begin += rows) {
    const std::int64_t end = std::min(begin + rows, w.size(0));
    const at::Tensor piece = buffer.narrow(0, 0, end - begin);
    piece.copy_(w.slice(0, begin, end));
    out.slice(-1, begin, end).copy_(f(piece));
  }
  return out;
}
}  // namespace

at::Tensor linear_map(const at::Tensor& x, const at::Tensor& w) {
  if (w.scalar_type() == x.scalar_type()) return at::linear(x, w);
  return by_pieces(x, w, [&](const at::Tensor& piece) { return at::linear(x, piece); });
}
at::Tensor linear_map(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
  if (w.scalar_type() == x.scalar_type()) return at::linear(x, w, bias);
  return linear_map(x, w) + bias;
}
at::Tensor linear_squares(const at::Tensor& x, const at::Tensor& w) {
  const at::Tensor squares = x * x;
  if (w.scalar_type() == x.scalar_type()) return at::linear(squares, w * w);
  return by_pieces(x, w, [&](at::Tensor piece) { return at::linear(squares, piece.square_()); });
}
at::Tensor lookup_rows(const at::Tensor& w, const at::Tensor& ids, at::ScalarType dtype) {
  return at::embedding(w, ids).to(dtype);
}

Weights::Weights(std::shared_ptr<const Checkpoint> checkpoint, at::ScalarType dtype,
                 std::optional<at::ScalarType> through)
    : checkpoint_(std::move(checkpoint)), dtype_(dtype), through_(through) {}

at::Tensor Weights::get(const std::string& name) {
  if (const auto it = kept_.find(name); it != kept_.end()) return it->second;
  const TensorView* view = checkpoint_->find(name);
  PS_CHECK(view != nullptr, "checkpoint without " + name);  // open_model has compared the names
  const at::Tensor stored = borrow(*view);
  // Rounding to a finer type changes nothing, so the order of the two conversions is safe.
  const at::Tensor rounded = through_ ? stored.to(*through_) : stored;
  const std::int64_t wide_bytes =
      stored.numel() * static_cast<std::int64_t>(c10::elementSize(dtype_));
  if (!gradients_ && stored.dim() == 2 && wide_bytes > kWholeBytes) return rounded;
  at::Tensor w = rounded.to(dtype_);  // the same dtype: still the mapped file, no copy
  if (gradients_) {
    w = w.is_same(stored) ? w.clone() : w;
    w.requires_grad_(true);
    kept_.emplace(name, w);
    return w;
  }
  const bool mapped = w.is_same(stored);
  const auto bytes = mapped ? std::int64_t{0} : static_cast<std::int64_t>(w.nbytes());
  if (kept_bytes_ + bytes <= kKeepBytes) {
    kept_bytes_ += bytes;
    kept_.emplace(name, w);
  }
  return w;
}

void Weights::track_gradients() {
  gradients_ = true;
  kept_.clear();
  kept_bytes_ = 0;
}

}  // namespace ps::reference
