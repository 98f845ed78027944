// Attention scores and probabilities to look at: thumbnails that lose no NaN and no error, and how
// spread out each query's attention is.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace ps::view {

// One head's [queries, keys] plane as at most `most` x `most` pixels; each is the largest of its
// cells.
struct Thumbnail {
  int width = 0, height = 0;
  std::vector<float> value;          // probs: the largest; scores: the largest |finite value|
  std::vector<float> error;          // the largest |actual - expected|; empty without an expected
  std::vector<std::uint8_t> broken;  // 1: a NaN or infinity, 2: of one side only
  double largest = 0, worst = 0;     // of value, of error
  bool any_broken = false;
};
// NaN, infinities and numbers in each other's place.
bool classes_differ(double a, double e);
// `plane` is row * heads + head of a [rows, heads, queries, keys] tensor. `expected` may be null;
// it is not looked at where its shape differs.
Thumbnail thumbnail(const TensorView& actual, const TensorView* expected, std::int64_t plane,
                    int most);

// Shannon entropy of every query's probabilities over ln(keys it attends to at all), [rows * heads
// * queries]: 0 one key, 1 all alike. NaN where a probability is NaN, infinite or negative; 0 for a
// row of zeros.
std::vector<float> entropies(const TensorView& probs);
// How far the probabilities of each query are from adding up to 1 (a row of zeros is right).
std::vector<float> sum_errors(const TensorView& probs);

}  // namespace ps::view
