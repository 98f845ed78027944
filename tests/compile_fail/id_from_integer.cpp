// An id is not a number that happens to be there: it is made on purpose.
#include "core/ids.h"

namespace {
std::int64_t row(ps::Replica replica) { return ps::to_index(replica); }
}  // namespace

std::int64_t use() {
#ifdef PS_SHOULD_FAIL
  return row(1);
#else
  return row(ps::Replica{1});
#endif
}
