#include "reference/weights.h"

#include "reference/bridge.h"

namespace ps::reference {

namespace {
constexpr std::int64_t kKeepBytes = std::int64_t{1} << 30;
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
