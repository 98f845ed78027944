// The building blocks of the architectures. Each adds its ops to the net and returns the point that
// the next one reads. Shapes are trace.md's: R = P*B rows, S new tokens, C = T + past + S columns.
#pragma once

#include "reference/net.h"

namespace ps::reference {

std::string layer(std::int64_t i);                           // "model.layers.3"
std::string layer(std::int64_t i, std::string_view module);  // "model.layers.3.mlp"

struct Tables {
  Point cos, sin;      // [1 or R,S,D]
  Point mask;          // [R,1,S,C]
  Point mask_sliding;  // the same within the window; empty where no layer slides
};
struct ReplicaRope {
  Point cos, sin;  // [B,P,X]; empty where the config has no replica RoPE
};

Point embed(Net& net);                      // [B,S,h]
Point replicate(Net& net, const Point& x);  // [R,S,h]
Tables position_and_mask_tables(Net& net);
ReplicaRope replica_rope_tables(Net& net);
Point cross_kv_mask(Net& net);  // [B,1,P*S,P*L], L = past + S

Point rms_norm(Net& net, const Point& point, const Point& x);
Point linear(Net& net, const Point& point, const Point& x, bool bias);
Point residual(Net& net, const Point& point, const Point& x, const Point& update);

Point self_attention(Net& net, std::int64_t i, const Point& x, const Tables& tables);
Point cross_kv_attention(Net& net, std::int64_t i, const Point& x, const Tables& tables,
                         const Point& mask);
Point cross_replica_attention(Net& net, std::int64_t i, const Point& x, const ReplicaRope& rope);
Point feed_forward(Net& net, std::int64_t i, const Point& x);

// Norm, self attention, residual, norm, feed-forward, residual; and what follows the attention.
Point decoder_layer(Net& net, std::int64_t i, const Point& x, const Tables& tables);
Point after_attention(Net& net, std::int64_t i, const Point& x, const Point& attended);
// Final norm per replica, the gate over replicas, the head: [B,S,V].
Point output(Net& net, const Point& x);
Point aggregate(Net& net, const Point& y);  // [B,S,h]

// Shared by the blocks, and by the faults that change one of these: arithmetic on tensors.
at::Tensor rope_positions(const StepContext& c);                             // [1 or R,S]
at::Tensor rope_frequencies(const ModelConfig& config, const Types& types);  // [D/2]
double rope_table_scale(const Rope& rope, std::int64_t max_position);
at::Tensor scaled_scores(const at::Tensor& q, const at::Tensor& k, double scale);
at::Tensor weighted_values(const at::Tensor& probs, const at::Tensor& v);
at::Tensor split_heads(const at::Tensor& x, std::int64_t n);  // [R,S,n*D] to [R,n,S,D]
at::Tensor join_heads(const at::Tensor& x);                   // and back
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, const Types& types);
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
at::Tensor masked_softmax(const at::Tensor& scores, const at::Tensor& mask, EmptyRows empty_rows,
                          const Types& types);

}  // namespace ps::reference
