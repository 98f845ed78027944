// Small double loops by which the verifier asks what a wrong number would be explained by: one row
// of attention over any keys, and the steps of a walk from an implementation's own numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "core/sparse.h"
#include "diff/sparse/masks.h"

namespace ps {

// Attention of query (b, h, i) over `keys`, each as often as it stands there; zeros over none.
// `key_head` reads K and V; `scale` multiplies the scores.
std::vector<double> attend_row(const SparseInputs& inputs, std::int64_t b, std::int64_t h,
                               std::int64_t i, const std::vector<std::int64_t>& keys,
                               std::int64_t key_head, double scale);

// Matrices [rows, n] of one batch entry, as plain vectors.
using Cells = std::vector<double>;
struct Pooling {
  bool padded = false;  // divide by the block's size even where it holds fewer tokens
};
// Means over heads, then over valid tokens of a block: [n, D].
Cells pooled(const TensorView& x, std::int64_t b, const std::vector<std::uint8_t>& valid,
             std::int64_t block, Pooling pooling);
Cells sketch_scores(const Cells& q, const Cells& k, const TensorView& sketch, std::int64_t dim);
// softmax to the power s, one constant for all rows; `masked_first` = false lets disallowed blocks
// share in the softmax and zeroes them afterwards.
Cells transition(const Cells& scores, const std::uint8_t* allowed, std::int64_t n, double exponent,
                 bool masked_first);
// R.W with disallowed entries zeroed; rows divided by their sums where `normalise`.
Cells walked(const Cells& r, const Cells& w, const std::uint8_t* allowed, std::int64_t n,
             bool normalise);
Cells rows_normalised(Cells r, std::int64_t n);

// The greatest |a - b| over the greatest |b|; infinite where one is not finite.
double distance(const double* a, const double* b, std::size_t count);

}  // namespace ps
