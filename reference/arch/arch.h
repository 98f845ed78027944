// Each architecture adds the ops of one step to a Net, in order of computation.
#pragma once

#include "reference/net.h"

namespace ps::reference::arch {

#define PS_ARCH(name) void name(Net& net);
#include "reference/arch/archs.def"
#undef PS_ARCH

}  // namespace ps::reference::arch
