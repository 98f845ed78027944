// A view of const cells cannot be written, nor turned into one that can.
#include "core/view.h"

void use(ps::View<float, 2> cells) {
#ifdef PS_SHOULD_FAIL
  const ps::View<const float, 2> seen = cells;
  seen(1, 2) = 3.0f;
#else
  cells(1, 2) = 3.0f;
#endif
}
