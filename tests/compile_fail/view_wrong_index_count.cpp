// A view with two axes takes two indices.
#include "core/view.h"

float use(ps::View<const float, 2> view) {
#ifdef PS_SHOULD_FAIL
  return view(1, 2, 3);
#else
  return view(1, 2);
#endif
}
