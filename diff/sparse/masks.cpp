#include "diff/sparse/masks.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ps {

namespace {

double lowest(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return -65504.0;
    case DType::kBF16:
      return -3.3895313892515355e38;
    case DType::kF32:
      return -static_cast<double>(std::numeric_limits<float>::max());
    default:
      return -std::numeric_limits<double>::max();
  }
}

}  // namespace

std::int64_t PairMask::count() const {
  return std::count_if(cells.begin(), cells.end(), [](std::uint8_t c) { return c != 0; });
}

TensorView PairMask::view() const {
  return {DType::kU8, {batch, heads, queries, keys}, std::as_bytes(std::span(cells))};
}

Result<PairMask> pair_mask(const SparseConfig& config, const std::optional<TensorView>& given,
                           std::int64_t queries, std::int64_t keys, const std::string& where) {
  std::int64_t heads = 1;
  if (given) {
    const Shape& s = given->shape;
    if (s.size() == 4) heads = s[1];
    const Shape three = {config.batch, queries, keys}, four = {config.batch, heads, queries, keys};
    if ((s != three && s != four) || (heads != 1 && heads != config.heads)) {
      return bad_input(where, "no token mask of this case",
                       to_string(three) + ", or heads (1 or H) after the batch", to_string(s));
    }
  }
  PairMask out(config.batch, heads, queries, keys);
  const double limit = given ? lowest(given->dtype) / 2 : 0;
  const bool additive = given && is_floating(given->dtype);
  const std::int64_t past = keys - queries;
  for (std::int64_t b = 0; b < out.batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < queries; ++i) {
        const std::size_t row = out.row(b, h, i);
        for (std::int64_t j = 0; j < keys; ++j) {
          bool allowed = !config.causal || j <= past + i;
          if (given) {
            const double m = value_at(*given, static_cast<std::int64_t>(row) + j);
            if (std::isnan(m)) return bad_input(where, "the mask holds NaN");
            allowed = allowed && (additive ? m > limit : m != 0);
          }
          out.cells[row + static_cast<std::size_t>(j)] = allowed ? 1 : 0;
        }
      }
    }
  }
  return out;
}

Result<PairMask> pair_mask_of_bits(const TensorView& bits, std::int64_t batch, std::int64_t heads,
                                   std::int64_t n, const std::string& where) {
  PairMask out(batch, heads, n, n);
  const std::size_t bytes = (out.cells.size() + 7) / 8;
  if (bits.bytes.size() != bytes || size_of(bits.dtype) != 1) {
    return bad_input(where, "wrong number of bits", std::to_string(bytes) + " bytes",
                     std::to_string(bits.bytes.size()));
  }
  for (std::size_t i = 0; i < out.cells.size(); ++i) {
    out.cells[i] = (std::to_integer<unsigned>(bits.bytes[i / 8]) >> (i % 8)) & 1u ? 1 : 0;
  }
  for (std::size_t i = out.cells.size(); i < bytes * 8; ++i) {
    if ((std::to_integer<unsigned>(bits.bytes[i / 8]) >> (i % 8)) & 1u) {
      return bad_input(where, "bits after the last pair", "zeros", "a one");
    }
  }
  return out;
}

PairMask block_any(const PairMask& mask, std::int64_t block) {
  const std::int64_t past = mask.keys - mask.queries, first = past / block;
  PairMask out(mask.batch, mask.heads, (mask.keys - 1) / block - first + 1,
               (mask.keys + block - 1) / block);
  for (std::int64_t b = 0; b < mask.batch; ++b) {
    for (std::int64_t h = 0; h < mask.heads; ++h) {
      for (std::int64_t i = 0; i < mask.queries; ++i) {
        const std::uint8_t* cells = mask.cells.data() + mask.row(b, h, i);
        std::uint8_t* tiles = out.cells.data() + out.row(b, h, (past + i) / block - first);
        for (std::int64_t t = 0; t < out.keys; ++t) {
          if (tiles[t] != 0) continue;
          const std::int64_t end = std::min(mask.keys, (t + 1) * block);
          for (std::int64_t j = t * block; j < end && tiles[t] == 0; ++j) tiles[t] = cells[j];
        }
      }
    }
  }
  return out;
}

PairMask any_head(const PairMask& mask) {
  PairMask out(mask.batch, 1, mask.queries, mask.keys);
  for (std::int64_t b = 0; b < mask.batch; ++b) {
    for (std::int64_t h = 0; h < mask.heads; ++h) {
      for (std::int64_t i = 0; i < mask.queries; ++i) {
        for (std::int64_t j = 0; j < mask.keys; ++j) {
          if (mask.at(b, h, i, j)) out.cells[out.row(b, 0, i) + static_cast<std::size_t>(j)] = 1;
        }
      }
    }
  }
  return out;
}

PairMask inside(const PairMask& mask, const BlockLists& lists, std::int64_t block) {
  const std::int64_t past = mask.keys - mask.queries, first = past / block;
  PairMask out(mask.batch, std::max(mask.heads, lists.heads), mask.queries, mask.keys);
  for (std::int64_t b = 0; b < out.batch; ++b) {
    for (std::int64_t h = 0; h < out.heads; ++h) {
      for (std::int64_t i = 0; i < out.queries; ++i) {
        const std::uint8_t* from = mask.cells.data() + mask.row(b, h, i);
        std::uint8_t* to = out.cells.data() + out.row(b, h, i);
        for (const std::int32_t j : lists.at(b, h, (past + i) / block - first)) {
          if (j < 0 || j * block >= out.keys) continue;
          const std::int64_t end = std::min(out.keys, (j + 1) * block);
          std::copy(from + j * block, from + end, to + j * block);
        }
      }
    }
  }
  return out;
}

}  // namespace ps
