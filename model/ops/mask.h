// Who may attend whom, one block a query row. Columns are `prefix` prefix slots, then the keys,
// once for each replica in cross-KV layers. Query `first + q` is token (first + q) % tokens at
// place past + token. It sees every prefix slot, and key j iff j <= its place, key_valid[row %
// samples, j], and j > place - window where there is a window. opened: a query that sees no key,
// judged without the prefix, sees all of them (CUDA + sdpa upstream). everything: all true
// (cross-KV as literally written).
#pragma once

#include "model/ops/op.h"

namespace ps::PS_BACKEND {
namespace {

struct Mask {
  Global<const std::uint8_t, 2> key_valid;  // [sample, key]
  Global<std::uint8_t, 3> out;              // [row, query, col]
  std::int64_t past, prefix, window, tokens, first;
  bool opened, everything;

  template <class Block>
  PS_HD void operator()(Block& block) const {
    const std::int64_t row = block.index() / out.size(1);
    const std::int64_t query = block.index() % out.size(1);
    const std::int64_t sample = row % key_valid.size(0);
    const std::int64_t keys = key_valid.size(1);
    const std::int64_t place = past + (first + query) % tokens;
    auto scratch = block.template shared<float>(kWarp);
    PerThread<Block, float> seen(block);  // 1 when a thread saw a visible key
    block.phase([&](Thread t) { seen[t] = 0.f; });
    block.each(out.size(2), [&](Thread t, std::int64_t col) {
      bool visible = true;
      if (col >= prefix && !everything) {
        const std::int64_t key = (col - prefix) % keys;
        visible = key <= place && (window == 0 || key > place - window) &&
                  block.load(key_valid, sample, key) != 0;
        if (visible) seen[t] = 1.f;
      }
      block.store(out, static_cast<std::uint8_t>(visible ? 1 : 0), row, query, col);
    });
    const float any = block_reduce(block, seen, scratch, Max{}, 0.f);
    if (opened && !everything && any == 0.f) {
      block.each(out.size(2), [&](Thread, std::int64_t col) {
        block.store(out, static_cast<std::uint8_t>(1), row, query, col);
      });
    }
  }
};

void run_mask(const OpCall& call, Launch& launch) {
  run_grid(Mask{.key_valid = call.in<std::uint8_t, 2>(0),
                .out = call.out<std::uint8_t, 3>(1),
                .past = call.integer(0),
                .prefix = call.integer(1),
                .window = call.integer(2),
                .tokens = call.integer(3),
                .first = call.integer(4),
                .opened = call.integer(5) != 0,
                .everything = call.integer(6) != 0},
           call.size(1, 0) * call.size(1, 1), call, launch);
}

std::vector<OpCase> mask_cases() {
  // Sample 0 is left-padded by two, sample 1 has no real key, sample 2 a hole.
  const auto fill = [](std::string_view, std::int64_t i, const Rng&) {
    const std::int64_t sample = i / 9, key = i % 9;
    if (sample == 0) return key < 2 ? 0.0 : 1.0;
    if (sample == 1) return 0.0;
    return key == 4 ? 0.0 : 1.0;
  };
  const auto sizes = [](std::int64_t row, std::int64_t query, std::int64_t col) {
    return std::vector<std::pair<std::string_view, std::int64_t>>{
        {"sample", 3}, {"key", 9}, {"row", row}, {"query", query}, {"col", col}};
  };
  //                        past prefix window tokens first opened everything
  return {{sizes(6, 5, 12), {4, 3, 0, 5, 0, 0, 0}, fill},    // chunk behind a cache, prefix
          {sizes(3, 9, 9), {0, 0, 0, 9, 0, 0, 0}, fill},     // prefill: rows that see nothing
          {sizes(3, 9, 9), {0, 0, 3, 9, 0, 0, 0}, fill},     // a window of three
          {sizes(6, 4, 11), {0, 2, 0, 9, 5, 1, 0}, fill},    // later block of queries, opened
          {sizes(3, 7, 18), {2, 0, 0, 7, 0, 0, 0}, fill},    // cross-KV: keys of two replicas
          {sizes(3, 10, 27), {4, 0, 0, 5, 0, 1, 0}, fill},   // cross-KV: queries of two replicas
          {sizes(3, 2, 18), {0, 0, 0, 9, 0, 0, 1}, fill},    // literal cross-KV
          {sizes(3, 1, 42), {8, 33, 0, 1, 0, 0, 0}, fill}};  // decode behind a long prefix
}

void mask_oracle(OracleCall& c) {
  const auto scalar = [&](std::size_t i) { return static_cast<std::int64_t>(c.scalars[i]); };
  const std::int64_t past = scalar(0), prefix = scalar(1), window = scalar(2), tokens = scalar(3),
                     first = scalar(4);
  for (std::int64_t r = 0; r < c.size(1, 0); ++r) {
    for (std::int64_t q = 0; q < c.size(1, 1); ++q) {
      std::int64_t token = first + q;
      while (token >= tokens) token -= tokens;
      std::int64_t seen = 0;
      for (std::int64_t col = 0; col < c.size(1, 2); ++col) {
        if (col < prefix || scalar(6) != 0) {
          c.at(1, r, q, col) = 1;
          continue;
        }
        std::int64_t key = col - prefix;
        while (key >= c.size(0, 1)) key -= c.size(0, 1);
        const std::int64_t behind = past + token - key;  // how far the key lies back
        const bool in_window = window == 0 || behind < window;
        const bool visible = behind >= 0 && in_window && c.at(0, r % c.size(0, 0), key) != 0;
        seen += visible ? 1 : 0;
        c.at(1, r, q, col) = visible ? 1 : 0;
      }
      if (seen == 0 && scalar(5) != 0 && scalar(6) == 0) {
        for (std::int64_t col = 0; col < c.size(1, 2); ++col) c.at(1, r, q, col) = 1;
      }
    }
  }
}

}  // namespace

const OpEntry& mask() {
  static const OpEntry entry{.name = "mask",
                             .schema =
                                 "key_valid:bool[sample,key] out>bool[row,query,col] | past prefix "
                                 "window tokens first opened everything",
                             .run = run_mask,
                             .cases = mask_cases,
                             .oracle = mask_oracle,
                             .storage_roundings = 0,
                             .float_roundings = 0};
  return entry;
}

}  // namespace ps::PS_BACKEND
