// A checkpoint's tensors in the type that the reference computes in. They are converted when an op
// asks for them; small models stay converted, large ones are converted again at each use, so that
// a 7B model in float64 needs the memory of one layer.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/checkpoint.h"
#include "reference/torch.h"

namespace ps::reference {

class Weights {
 public:
  // `through`: rounded to this type first, when it is coarser than the stored one.
  Weights(std::shared_ptr<const Checkpoint> checkpoint, at::ScalarType dtype,
          std::optional<at::ScalarType> through = std::nullopt);

  // In the type that the reference computes in; a tensor too large to be widened as a whole comes
  // as it is stored, and linear_map() and lookup_rows() widen it piece by piece.
  at::Tensor get(const std::string& name);

  // From here on every weight is a leaf that wants a gradient, and is kept.
  void track_gradients();
  const std::map<std::string, at::Tensor>& kept() const { return kept_; }

 private:
  std::shared_ptr<const Checkpoint> checkpoint_;
  at::ScalarType dtype_;
  std::optional<at::ScalarType> through_;
  bool gradients_ = false;
  std::int64_t kept_bytes_ = 0;
  std::map<std::string, at::Tensor> kept_;
};

// x W^T (+ bias), whatever type W is stored in.
at::Tensor linear_map(const at::Tensor& x, const at::Tensor& w);
at::Tensor linear_map(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias);
// (x∘x) (W∘W)^T: the squared norms of a dot product's terms.
at::Tensor linear_squares(const at::Tensor& x, const at::Tensor& w);
// Rows of W, in `dtype`.
at::Tensor lookup_rows(const at::Tensor& w, const at::Tensor& ids, at::ScalarType dtype);

}  // namespace ps::reference
