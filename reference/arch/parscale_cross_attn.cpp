// ParScale with attention across the replicas of one token, before chosen layers.
#include "reference/arch/arch.h"
#include "reference/ops/blocks.h"

namespace ps::reference::arch {

void parscale_cross_attn(Net& net) {
  const Tables tables = position_and_mask_tables(net);
  const ReplicaRope replica_rope = replica_rope_tables(net);
  Point x = replicate(net, embed(net));
  for (std::int64_t i = 0; i < net.config().layers; ++i) {
    if (net.config().cross_layer[static_cast<std::size_t>(i)]) {
      const Point normed = rms_norm(net, layer(i, "cross_replica_layernorm"), x);
      const Point crossed = cross_replica_attention(net, i, normed, replica_rope);
      x = residual(net, layer(i) + ":cross_residual", x, crossed);  // a name beyond trace.md's
    }
    x = decoder_layer(net, i, x, tables);
  }
  output(net, x);
}

}  // namespace ps::reference::arch
