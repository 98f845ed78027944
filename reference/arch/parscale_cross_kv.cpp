// Cross-KV: in chosen layers a query attends the tokens of all replicas. Upstream cannot run it;
// parscale.md section 5 says what it was meant to be (causal) and what it literally says.
#include "reference/arch/arch.h"
#include "reference/ops/blocks.h"

namespace ps::reference::arch {

void parscale_cross_kv(Net& net) {
  const Tables tables = position_and_mask_tables(net);
  const Point cross_mask = cross_kv_mask(net);
  Point x = replicate(net, embed(net));
  for (std::int64_t i = 0; i < net.config().layers; ++i) {
    const Point normed = rms_norm(net, layer(i, "input_layernorm"), x);
    const bool cross = net.config().cross_kv_layer[static_cast<std::size_t>(i)];
    x = after_attention(net, i, x,
                        cross ? cross_kv_attention(net, i, normed, tables, cross_mask)
                              : self_attention(net, i, normed, tables));
  }
  output(net, x);
}

}  // namespace ps::reference::arch
