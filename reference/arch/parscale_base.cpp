// parscale-xattn's base: ParScale, whose prefix is also active at P = 1 (the config says so).
#include "reference/arch/arch.h"

namespace ps::reference::arch {

void parscale_base(Net& net) { qwen2_parscale(net); }

}  // namespace ps::reference::arch
