// The numbers of spec sparse.md section 5 for one layer.
#pragma once

#include <cstdint>
#include <optional>

#include "core/sparse.h"
#include "diff/sparse/masks.h"

namespace ps {

struct SparseMetrics {
  double density_token = 0;  // chosen pairs / allowed pairs
  double density_block = 0;  // chosen blocks / allowed blocks
  double recall_mean = 0;    // dense probability that lies on the chosen pairs, over rows with keys
  double recall_min = 0;
  double recall_p5 = 0;  // 5th percentile
  double rel_l2 = 0;     // sparse against dense output
  double cosine_min = 0;
  std::int64_t rows_without_key = 0;         // that M gives some
  std::int64_t fully_masked_rows_dense = 0;  // that M gives none
};

// `mask`: M; `chosen`: M inside the lists; `mass`: [B,H,Nq]; outputs [B,H,Nq,D], all float64.
SparseMetrics sparse_metrics(const PairMask& mask, const PairMask& chosen, const BlockLists& lists,
                             const PairMask& allowed, const Tensor& mass, const Tensor& sparse,
                             const Tensor& dense);

// Chosen blocks of a causal selection without padding, over all allowed blocks: 2x - x^2 where rows
// hold a share x of the n blocks.
double closed_form_density(std::int64_t tau, std::int64_t blocks);

// (last taken - first rejected) / last taken; none where nothing was taken freely or rejected.
// Ranks allowed blocks that are not forced; scores [B, 1 or H, rows, n].
std::optional<double> row_margin(const SparseConfig& config, const double* scores,
                                 const std::vector<std::int32_t>& list, const PairMask& allowed,
                                 std::int64_t b, std::int64_t h, std::int64_t row,
                                 std::int64_t first);

}  // namespace ps
