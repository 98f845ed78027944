// Qwen2: pre-norm decoder, grouped heads, rotary positions, biases on q, k, v.
#include "reference/arch/arch.h"
#include "reference/ops/blocks.h"

namespace ps::reference::arch {

void qwen2(Net& net) {
  const Tables tables = position_and_mask_tables(net);
  Point x = replicate(net, embed(net));  // [R,S,h]; R = B here
  for (std::int64_t i = 0; i < net.config().layers; ++i) {
    x = decoder_layer(net, i, x, tables);
  }
  output(net, x);
}

}  // namespace ps::reference::arch
