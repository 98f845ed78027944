// Global memory is reached through block.load and block.store: a body cannot index it, so the
// checked runner sees every access.
#include "model/block/host_block.h"

namespace ps {

struct Body {
  Global<const float, 2> in;
  Global<float, 2> out;
  template <class Block>
  void operator()(Block& block) const {
    block.each(out.size(1), [&](Thread, std::int64_t c) {
#ifdef PS_SHOULD_FAIL
      block.store(out, in.data_[c], 0, c);
#else
      block.store(out, block.load(in, 0, c), 0, c);
#endif
    });
  }
};
template void Body::operator()(HostBlock&) const;

}  // namespace ps
