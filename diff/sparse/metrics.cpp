#include "diff/sparse/metrics.h"

#include <algorithm>
#include <cmath>

#include "diff/sparse/lists.h"

namespace ps {

namespace {

bool any_key(const PairMask& mask, std::int64_t b, std::int64_t h, std::int64_t i) {
  const std::uint8_t* row = mask.cells.data() + mask.row(b, h, i);
  return std::any_of(row, row + mask.keys, [](std::uint8_t c) { return c != 0; });
}

double ratio(double a, double b) { return b > 0 ? a / b : 0; }

}  // namespace

SparseMetrics sparse_metrics(const PairMask& mask, const PairMask& chosen, const BlockLists& lists,
                             const PairMask& allowed, const Tensor& mass, const Tensor& sparse,
                             const Tensor& dense) {
  SparseMetrics out;
  const Shape& shape = sparse.shape();
  const std::int64_t batch = shape[0], heads = shape[1], queries = shape[2], dim = shape[3];
  const auto rho = mass.view().as<double>();
  const auto a = sparse.view().as<double>(), d = dense.view().as<double>();
  std::vector<double> recalls;
  double difference = 0, norm = 0;
  out.cosine_min = 1;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < queries; ++i) {
        const auto row = static_cast<std::size_t>((b * heads + h) * queries + i);
        double dot = 0, aa = 0, dd = 0;
        for (std::size_t c = row * static_cast<std::size_t>(dim);
             c < (row + 1) * static_cast<std::size_t>(dim); ++c) {
          difference += (a[c] - d[c]) * (a[c] - d[c]);
          dot += a[c] * d[c], aa += a[c] * a[c], dd += d[c] * d[c];
        }
        norm += dd;
        if (!any_key(mask, b, h, i)) {
          ++out.fully_masked_rows_dense;
          continue;
        }
        recalls.push_back(rho[row]);
        if (!any_key(chosen, b, h, i)) ++out.rows_without_key;
        if (aa > 0 && dd > 0) out.cosine_min = std::min(out.cosine_min, dot / std::sqrt(aa * dd));
      }
    }
  }
  out.rel_l2 = ratio(std::sqrt(difference), std::sqrt(norm));
  std::sort(recalls.begin(), recalls.end());
  if (!recalls.empty()) {
    double sum = 0;
    for (const double r : recalls) sum += r;
    out.recall_mean = sum / static_cast<double>(recalls.size());
    out.recall_min = recalls.front();
    out.recall_p5 = recalls[(recalls.size() - 1) / 20];
  }
  const auto pairs = [&](const PairMask& m) {
    return static_cast<double>(m.count()) * (m.heads == 1 ? static_cast<double>(heads) : 1.0);
  };
  out.density_token = ratio(pairs(chosen), pairs(mask));
  double blocks = 0;
  for (const auto& list : lists.lists) blocks += static_cast<double>(list.size());
  const double repeat = lists.heads == 1 ? static_cast<double>(heads) : 1.0;
  out.density_block = ratio(blocks * repeat, pairs(allowed));
  return out;
}

double closed_form_density(std::int64_t tau, std::int64_t blocks) {
  const auto n = static_cast<double>(blocks), t = std::min(static_cast<double>(tau), n);
  return (t * n - t * (t - 1) / 2) / (n * (n + 1) / 2);
}

std::optional<double> row_margin(const SparseConfig& config, const double* scores,
                                 const std::vector<std::int32_t>& list, const PairMask& allowed,
                                 std::int64_t b, std::int64_t h, std::int64_t row,
                                 std::int64_t first) {
  const auto forced = forced_blocks(config, allowed, b, h, row, first);
  double taken = HUGE_VAL, rejected = -HUGE_VAL;
  for (std::int64_t j = 0; j < allowed.keys; ++j) {
    if (!allowed.at(b, h, row, j)) continue;
    const auto block = static_cast<std::int32_t>(j);
    if (std::find(list.begin(), list.end(), block) == list.end()) {
      rejected = std::max(rejected, scores[j]);
    } else if (!std::binary_search(forced.begin(), forced.end(), block)) {
      taken = std::min(taken, scores[j]);
    }
  }
  if (taken == HUGE_VAL || rejected == -HUGE_VAL) return std::nullopt;
  return (taken - rejected) / taken;
}

}  // namespace ps
