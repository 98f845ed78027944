// Qwen3 is Qwen2 without biases, with an RMSNorm over each head of q and k before the rotation:
// self_attention adds it where the config has qk_norm.
#include "reference/arch/arch.h"

namespace ps::reference::arch {

void qwen3(Net& net) { qwen2(net); }

}  // namespace ps::reference::arch
