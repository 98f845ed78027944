// An input is Global<const T, N>: a store to it does not compile.
#include "model/block/host_block.h"

namespace ps {

struct Body {
  Global<const float, 1> in;
  Global<float, 1> out;
  template <class Block>
  void operator()(Block& block) const {
#ifdef PS_SHOULD_FAIL
    const auto& to = in;
#else
    const auto& to = out;
#endif
    block.each(out.size(0), [&](Thread, std::int64_t i) { block.store(to, block.load(in, i), i); });
  }
};
template void Body::operator()(HostBlock&) const;

}  // namespace ps
