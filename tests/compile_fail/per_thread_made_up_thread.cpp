// Only a block makes a Thread: a body cannot name another one.
#include "model/block/host_block.h"

namespace ps {

struct Body {
  template <class Block>
  void operator()(Block& block) const {
    PerThread<Block, float> part(block);
    block.phase([&](Thread t) {
#ifdef PS_SHOULD_FAIL
      part[t] = part[Thread(0)];
#else
      part[t] = static_cast<float>(t.id());
#endif
    });
  }
};
template void Body::operator()(HostBlock&) const;

}  // namespace ps
