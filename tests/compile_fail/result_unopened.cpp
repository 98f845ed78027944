// A Result is no value: it must be opened first.
#include "core/result.h"

namespace {
ps::Result<int> count() { return 3; }
}  // namespace

int use() {
#ifdef PS_SHOULD_FAIL
  return count();
#else
  return count().value();
#endif
}
