#include "reference/sparse/blocks.h"

#include <limits>
#include <stdexcept>

namespace ps::reference {

namespace {

// What a floating mask forbids: everything at or below half of its type's lowest number.
at::Tensor allowed_by_sum(const at::Tensor& mask) {
  if (mask.isnan().any().item<bool>()) throw std::invalid_argument("the mask holds NaN");
  double lowest = -std::numeric_limits<double>::max();
  if (mask.scalar_type() == at::kFloat) lowest = -std::numeric_limits<float>::max();
  if (mask.scalar_type() == at::kHalf) lowest = -65504.0;
  if (mask.scalar_type() == at::kBFloat16) lowest = -3.3895313892515355e38;
  return mask.to(at::kDouble).gt(lowest / 2);
}

// x padded with zeros on `axis` so that blocks start at multiples of `block` and the last is whole.
at::Tensor padded_to_blocks(const at::Tensor& x, std::int64_t axis, std::int64_t block,
                            std::int64_t past) {
  const std::int64_t before = past % block;
  const std::int64_t after = (block - (before + x.size(axis)) % block) % block;
  std::vector<std::int64_t> shape(x.sizes().begin(), x.sizes().end());
  const auto zeros = [&](std::int64_t n) {
    shape[static_cast<std::size_t>(axis)] = n;
    return at::zeros(shape, x.options());
  };
  return at::cat({zeros(before), x, zeros(after)}, axis);
}

}  // namespace

at::Tensor token_mask(const SparseConfig& config, const std::optional<at::Tensor>& given,
                      std::int64_t batch, std::int64_t queries, std::int64_t keys) {
  at::Tensor mask;
  if (given) {
    mask = given->is_floating_point() ? allowed_by_sum(*given) : given->ne(0);
    if (mask.dim() == 3) mask = mask.unsqueeze(1);
    const bool fits = mask.dim() == 4 && mask.size(0) == batch && mask.size(2) == queries &&
                      mask.size(3) == keys && (mask.size(1) == 1 || mask.size(1) == config.heads);
    if (!fits) throw std::invalid_argument("the mask is neither [B,Nq,Nk] nor [B,1|H,Nq,Nk]");
  } else {
    mask = at::ones({batch, 1, queries, keys}, at::kBool);
  }
  if (config.causal) {
    const at::Tensor q = at::arange(keys - queries, keys).unsqueeze(1);
    mask = mask.logical_and(at::arange(keys).unsqueeze(0).le(q));
  }
  return mask.contiguous();
}

at::Tensor block_any(const at::Tensor& mask, std::int64_t block, std::int64_t past) {
  const at::Tensor rows = padded_to_blocks(mask, 2, block, past);
  const at::Tensor whole = padded_to_blocks(rows, 3, block, 0);
  const std::int64_t b = mask.size(0), h = mask.size(1);
  return whole.reshape({b, h, -1, block, whole.size(3)})
      .any(3)
      .reshape({b, h, -1, whole.size(3) / block, block})
      .any(4);
}

Pooled pool_mean(const at::Tensor& x, const at::Tensor& valid, std::int64_t block,
                 std::int64_t past) {
  const at::Tensor real = valid.to(x.scalar_type()).unsqueeze(2);
  const at::Tensor tokens = padded_to_blocks(at::where(real.ne(0), x, 0.0), 1, block, past);
  const at::Tensor ones = padded_to_blocks(real, 1, block, past);
  const auto sum = [&](const at::Tensor& t) {
    return t.reshape({t.size(0), -1, block, t.size(2)}).sum(2);
  };
  const at::Tensor count = sum(ones);
  return {sum(tokens) / count.clamp_min(1.0), count.squeeze(2)};
}

}  // namespace ps::reference
