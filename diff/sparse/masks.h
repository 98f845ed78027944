// Token masks of the verifier: the allowed pairs M, blocks of them, and M inside chosen blocks.
// It shares nothing with the reference, which has its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/sparse.h"

namespace ps {

// [batch, heads, queries, keys], one byte a pair; heads == 1 where all heads share.
struct PairMask {
  std::int64_t batch = 0, heads = 0, queries = 0, keys = 0;
  std::vector<std::uint8_t> cells;

  PairMask() = default;
  PairMask(std::int64_t b, std::int64_t h, std::int64_t q, std::int64_t k)
      : batch(b), heads(h), queries(q), keys(k), cells(static_cast<std::size_t>(b * h * q * k)) {}
  std::size_t row(std::int64_t b, std::int64_t h, std::int64_t i) const {
    return static_cast<std::size_t>(((b * heads + (heads == 1 ? 0 : h)) * queries + i) * keys);
  }
  bool at(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) const {
    return cells[row(b, h, i) + static_cast<std::size_t>(j)] != 0;
  }
  std::int64_t count() const;  // allowed pairs
  TensorView view() const;     // U8
};

// A mask in any of its forms ([B,Nq,Nk], [B,1,..], [B,H,..]; boolean, or 0 and very negative),
// joined with causality where the config says so. NaN, or another shape, is an Error.
Result<PairMask> pair_mask(const SparseConfig& config, const std::optional<TensorView>& given,
                           std::int64_t queries, std::int64_t keys, const std::string& where);
// Bits, least significant first: [B,H,N,N].
Result<PairMask> pair_mask_of_bits(const TensorView& bits, std::int64_t batch, std::int64_t heads,
                                   std::int64_t n, const std::string& where);

// Any over each tile: a mask of blocks. The first query has position keys - queries.
PairMask block_any(const PairMask& mask, std::int64_t block);
PairMask any_head(const PairMask& mask);

// M inside the listed blocks. Indices that are no block select nothing.
PairMask inside(const PairMask& mask, const BlockLists& lists, std::int64_t block);

}  // namespace ps
