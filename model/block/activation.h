// The activations of core/config.h, in float.
#pragma once

#include <cmath>

#include "core/config.h"
#include "model/block/math.h"

namespace ps {

template <Activation A>
PS_HD inline float activated(float x) {
  if constexpr (A == Activation::kSilu) {
    return x / (1.f + exponential(-x));
  } else if constexpr (A == Activation::kGelu) {
    return 0.5f * x * (1.f + erff(x * 0.70710678118654752f));
  } else if constexpr (A == Activation::kGeluTanh) {
    return 0.5f * x * (1.f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
  } else if constexpr (A == Activation::kRelu) {
    return x < 0.f ? 0.f : x;  // a NaN stays
  } else if constexpr (A == Activation::kRelu2) {
    const float y = x < 0.f ? 0.f : x;
    return y * y;
  } else {
    static_assert(A == Activation::kQuickGelu);
    return x / (1.f + exponential(-1.702f * x));
  }
}

// f.template operator()<A>() for the activation that a value names.
template <class F>
void with_activation(Activation activation, F&& f) {
  switch (activation) {
    case Activation::kSilu:
      return f.template operator()<Activation::kSilu>();
    case Activation::kGelu:
      return f.template operator()<Activation::kGelu>();
    case Activation::kGeluTanh:
      return f.template operator()<Activation::kGeluTanh>();
    case Activation::kRelu:
      return f.template operator()<Activation::kRelu>();
    case Activation::kRelu2:
      return f.template operator()<Activation::kRelu2>();
    case Activation::kQuickGelu:
      return f.template operator()<Activation::kQuickGelu>();
  }
}

}  // namespace ps
