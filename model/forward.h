// One forward pass, from tokens to logits (parscale.md section 3). Every value with a name is an
// array that a kernel wrote and the next one reads; the tap is handed that array, in order of
// computation.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "model/arena.h"
#include "model/kv_cache.h"
#include "model/sparse_kernels.h"
#include "model/sparse_layer.h"
#include "model/step_inputs.h"
#include "model/transformer.h"

namespace ps {

class Forward {
 public:
  // query_means: what block-sparse layers remember of earlier queries; null without such layers.
  Forward(const ModelState& state, Arena& arena, KvCache& cache, KvCache* query_means, Tap& tap,
          const PreparedInputs& inputs);
  Array run(Logits which);  // [batch, tokens or 1, vocab]

 private:
  // Who sees whom in a layer. `whole` is built once a step if it is small or tapped, else a block
  // of queries at a time.
  struct MaskKind {
    std::int64_t prefix = 0, window = 0;
    std::int64_t query_replicas = 1,
                 key_replicas = 1;  // cross-KV: queries and keys of all replicas
    bool everything = false;
    Array whole{};  // [mask_row, 1 or head, query, col]
  };
  struct AttentionPoints {
    std::string scores, probs, context;
  };

  // forward.cpp
  void embed();
  void rope_tables();
  Array layer(std::int64_t index, const Array& x);
  Array mlp(std::int64_t index, const Array& x);
  Array aggregate(const Array& y);
  Array norm(const std::string& point, const Array& x, const Array& weight);
  Array linear(const std::string& point, const Array& x, const Linear& weights);
  Array row_linear(const std::string& point, const Array& x, const Linear& weights);
  void add(const Array& a, const Array& b, const Array& out);
  Array other_hidden(const Array& x) const {
    return x.data() == hidden_[0].data() ? hidden_[1] : hidden_[0];
  }

  // attention.cpp
  Array self_attention(std::int64_t index, const Array& x);
  Array cross_kv_context(const AttentionPoints& points, const Array& q, const Array& keys,
                         const Array& values);
  void attend(const AttentionPoints& points, MaskKind& mask, const Array& q, const Array& keys,
              const Array& values, const Array& context);
  Array rotated(const std::string& point, const Array& heads_last);

  // sparse_layer.cpp
  bool sparse_layer(std::int64_t index) const;
  void prepare_sparse();
  BlockLists walk_lists(std::int64_t index, const std::string& name, const Array& q,
                        const Array& keys);
  BlockLists gate_lists(std::int64_t index, const std::string& name, const Array& q,
                        const Array& keys);
  void attend_blocks(std::int64_t index, const std::string& name, const Array& q, const Array& keys,
                     const Array& values, const Array& context);

  // masks.cpp
  void prepare_masks();
  void build_whole(MaskKind& kind, std::int64_t rows);
  Array mask_block(MaskKind& kind, std::int64_t first, std::int64_t count);
  void run_mask(const MaskKind& kind, std::int64_t first, const Array& out);
  std::int64_t queries(const MaskKind& kind) const { return kind.query_replicas * tokens_; }
  std::int64_t columns(const MaskKind& kind) const {
    return kind.prefix + kind.key_replicas * (kind.everything ? tokens_ : inputs_.keys);
  }

  // cross_replica.cpp
  void replica_tables();
  Array cross_replica(std::int64_t index, const Array& x);

  Array take(std::initializer_list<std::int64_t> sizes) {
    return arena_.take(state_.options.dtype, sizes);
  }
  // `made_from`: for a plant.
  void emit(const std::string& point, const Array& value,
            std::initializer_list<Array> made_from = {}) {
    planted(point, value, made_from);
    hand_out(point, value);
  }
  void hand_out(const std::string& point, const Array& value) {
    ps::emit(backend_, arena_, tap_, point, value);
  }
  void planted(const std::string& point, const Array& value,
               std::initializer_list<Array> made_from);

  const ModelState& state_;
  const ModelConfig& config_;
  Backend& backend_;
  Arena& arena_;
  KvCache& cache_;
  KvCache* query_means_;
  Tap& tap_;
  const PreparedInputs& inputs_;
  std::int64_t batch_, tokens_, rows_;  // rows = replicas * batch

  Array hidden_[2];                      // [row, token, hidden]; the residual stream takes turns
  Array key_valid_;                      // bool [batch, key]
  Array cosine_, sine_;                  // [1 or row, token, dim]
  Array replica_cosine_, replica_sine_;  // f32 [batch, replica, cross dim]
  MaskKind full_, sliding_, cross_kv_;
  std::optional<SparseKernels> kernels_;  // with block-sparse layers only, as the next
  SparseStep sparse_;
  std::map<std::string, Array, std::less<>> points_;  // for a plant; empty without one
};

}  // namespace ps
