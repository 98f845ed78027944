// Llama is Qwen2 without biases on q, k, v; its RoPE scaling is in the tables, the biases that a
// config may ask for are in the projections.
#include "reference/arch/arch.h"

namespace ps::reference::arch {

void llama(Net& net) { qwen2(net); }

}  // namespace ps::reference::arch
