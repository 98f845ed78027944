#include "diff/golden/masks_attention.h"

#include <algorithm>
#include <cmath>

namespace ps {

AttentionOutput masked_attention(const mask::Mask& mask, const TensorView& q, const TensorView& k,
                                 const TensorView& v, double scale) {
  const auto& [B, H, Q, KV] = mask.dims();
  const std::int64_t D = q.shape[3], kv_heads = k.shape[1];
  std::vector<double> qs(static_cast<std::size_t>(q.count())),
      ks(static_cast<std::size_t>(k.count())), vs(static_cast<std::size_t>(v.count()));
  to_doubles(q, qs);
  to_doubles(k, ks);
  to_doubles(v, vs);
  AttentionOutput result;
  result.out.resize(qs.size());
  std::vector<double> scores(static_cast<std::size_t>(KV));
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  for (std::int64_t row = 0; row < B * H * Q; ++row) {
    const std::int64_t b = row / (H * Q), h = row / Q % H, i = row % Q;
    const std::int64_t kv = (b * kv_heads + h / (H / kv_heads)) * KV;  // the head's first key
    const auto runs = mask.plane(b, h).row(i);
    double most = -HUGE_VAL;
    for (const auto& [lo, hi] : runs) {
      for (std::int64_t j = lo; j < hi; ++j) {
        double s = 0;
        for (std::int64_t d = 0; d < D; ++d) s += qs[at(row * D + d)] * ks[at((kv + j) * D + d)];
        scores[at(j)] = s * scale;
        most = std::max(most, s * scale);
      }
    }
    double sum = 0;
    for (const auto& [lo, hi] : runs) {
      for (std::int64_t j = lo; j < hi; ++j) {
        const double p = std::exp(scores[at(j)] - most);
        sum += p;
        for (std::int64_t d = 0; d < D; ++d)
          result.out[at(row * D + d)] += p * vs[at((kv + j) * D + d)];
      }
    }
    for (std::int64_t d = 0; d < D && sum > 0; ++d) result.out[at(row * D + d)] /= sum;
    result.lse.push_back(sum > 0 ? most + std::log(sum) : -HUGE_VAL);
  }
  return result;
}

}  // namespace ps
