// A register is read by its own thread: an index by number, which would work on a host and not on a
// device, does not compile.
#include "model/block/host_block.h"

namespace ps {

struct Body {
  template <class Block>
  void operator()(Block& block) const {
    PerThread<Block, float> part(block);
    block.phase([&](Thread t) {
#ifdef PS_SHOULD_FAIL
      part[t] = part[0];
#else
      part[t] = 1.f;
#endif
    });
  }
};
template void Body::operator()(HostBlock&) const;

}  // namespace ps
