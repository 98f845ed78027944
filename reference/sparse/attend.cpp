#include "reference/sparse/blocks.h"

namespace ps::reference {

namespace {

// Queries at a time: 4096 keys in float64 are then 16 MiB of scores.
constexpr std::int64_t kQueries = 512;

}  // namespace

Attention attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const at::Tensor& mask, const at::Tensor& within) {
  const std::int64_t group = q.size(1) / k.size(1);
  const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  std::vector<at::Tensor> batches, masses;
  for (std::int64_t b = 0; b < q.size(0); ++b) {
    std::vector<at::Tensor> heads, head_mass;
    for (std::int64_t h = 0; h < q.size(1); ++h) {
      const at::Tensor keys = k[b][h / group].transpose(0, 1), values = v[b][h / group];
      std::vector<at::Tensor> outs, mass;
      for (std::int64_t at = 0; at < q.size(2); at += kQueries) {
        const std::int64_t end = std::min(q.size(2), at + kQueries);
        const at::Tensor allowed = mask[b][mask.size(1) == 1 ? 0 : h].slice(0, at, end);
        const at::Tensor scores = at::matmul(q[b][h].slice(0, at, end), keys) * scale;
        // A row without a key is a softmax over all of them times zero: no NaN, also in gradients.
        const at::Tensor any = allowed.any(1, true);
        const at::Tensor open = allowed.logical_or(any.logical_not());
        const at::Tensor p =
            at::softmax(scores.masked_fill(open.logical_not(), -HUGE_VAL), 1) * any;
        outs.push_back(at::matmul(p, values));
        if (within.defined()) {
          const at::Tensor part = within[b][within.size(1) == 1 ? 0 : h].slice(0, at, end);
          mass.push_back((p * part).sum(1));
        }
      }
      heads.push_back(at::cat(outs));
      if (within.defined()) head_mass.push_back(at::cat(mass));
    }
    batches.push_back(at::stack(heads));
    if (within.defined()) masses.push_back(at::stack(head_mass));
  }
  return {at::stack(batches), within.defined() ? at::stack(masses) : at::Tensor()};
}

}  // namespace ps::reference
