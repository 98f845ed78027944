// ParScale: P copies of every row go through one Qwen2, each with its own learned prefix in the
// cache; a learned gate sums the P final states. Replication, prefix and gate are in the blocks and
// do nothing at P = 1, T = 0: that is plain Qwen2.
#include "reference/arch/arch.h"

namespace ps::reference::arch {

void qwen2_parscale(Net& net) { qwen2(net); }

}  // namespace ps::reference::arch
