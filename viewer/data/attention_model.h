// What the Attention panel shows, computed: every head of a step as a thumbnail.
#pragma once

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "diff/view/attention_map.h"
#include "viewer/app/session.h"

namespace ps::viewer {

enum class AttentionShow : std::uint8_t { kScores, kProbs, kEntropy };

struct AttentionKey {
  std::uint64_t version = 0;
  std::int64_t run = 0, step = 0, rank = 0, batch = 0;
  AttentionShow show = AttentionShow::kProbs;
  bool expected = false;  // the thumbnails are the reference's
  int pixels = 0;
  bool operator==(const AttentionKey&) const = default;
};

struct AttentionHead {
  std::int64_t layer = 0, head = 0, replica = 0;
  view::Thumbnail thumbnail;
  std::vector<float> entropy;  // of every query
};

struct AttentionModel {
  RunPtr run, reference;
  std::int64_t heads = 0, replicas = 1, layers = 0;
  // By layer, replica, head; layers that were not captured are not there.
  std::vector<AttentionHead> all;
  double largest = 0, bound = 0;
  std::int64_t wrong = 0;
};

// "model.layers.3.self_attn:probs"; scores have a point of their own.
std::string attention_point(std::int64_t layer, AttentionShow show);
// Of one sample. Layers that were not captured are left out.
std::shared_ptr<const AttentionModel> made_attention_model(
    const AttentionKey& key, const RunPtr& run, const RunPtr& reference, std::int64_t replicas,
    std::int64_t samples, const std::stop_token& stop);

}  // namespace ps::viewer
