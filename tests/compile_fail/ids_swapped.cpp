// Ids are types: a layer where a head belongs does not compile.
#include "core/ids.h"

namespace {
std::int64_t slot(ps::Layer layer, ps::Head head) {
  return ps::to_index(layer) * 7 + ps::to_index(head);
}
}  // namespace

std::int64_t use() {
#ifdef PS_SHOULD_FAIL
  return slot(ps::Head{3}, ps::Layer{2});
#else
  return slot(ps::Layer{2}, ps::Head{3});
#endif
}
