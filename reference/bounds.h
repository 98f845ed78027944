// How far a correct op may be from its exact value, per cell: derived from the unit round-off of
// the candidate's type and of its accumulator, the lengths of its sums, and the op's own
// conditioning. What each kind allows stands in bounds.cpp, next to why.
#pragma once

#include "core/engine.h"
#include "reference/net.h"

namespace ps::reference {

struct RoundingUnits {
  double result = 0;      // relative error of storing one value in the candidate's type
  double accumulate = 0;  // of one addition in its accumulator: float32, or float64 for float64
  double stored = 0;      // of the type in which the value was captured
  double capture = 0;     // of storing a value in a coarser type than the run's; else 0
  double table = 0;       // of the fp32 islands that nobody computes in anything else
  double floor = 0;  // smallest number of the candidate's type: below it there is no relative error
  double lambda = 8;
  std::int64_t ranks = 1;  // a row-parallel sum comes as so many parts
};
RoundingUnits units_of(const Rounding& rounding);

// All tensors are float64. The result has out's shape.
at::Tensor bound_of(const Op& op, const StepContext& context, const Tensors& in, const Tensors& w,
                    const at::Tensor& out, const RoundingUnits& units);

// A chain of ops whose middle was not captured: the error of the same chain in the candidate's
// type, times a stated factor, since another order of the same sums may err as much elsewhere.
at::Tensor chain_bound(const at::Tensor& out, const at::Tensor& same_type,
                       const RoundingUnits& units);
// The same of a gradient.
at::Tensor gradient_bound(const at::Tensor& out, const at::Tensor& same_type,
                          const RoundingUnits& units);

// What is not known of queries and keys that were not captured themselves, but rotated by the
// reference from captured projections.
struct RotationNoise {
  at::Tensor variance;  // of each cell; undefined: the values were captured
  double relative = 0;  // an error that is common to a token, of a norm's statistics
  at::Tensor angle;     // worst error of each cell's angle, [D]
};
// Of values x [..,D] that were rotated in the candidate's type: products, their sum, the tables,
// and where there is one the norm before, are stored. A pair's length is what bounds them all.
RotationNoise rotation_noise(const at::Tensor& x, bool normed, const at::Tensor& angles,
                             const RoundingUnits& u);

// The context [R,S,H*D] of queries [R,H,S,D], keys and values [R,K,C,D], where neither scores nor
// probabilities were captured: what rounding those, and queries and keys where they carry noise,
// does to it. Undefined where that takes more than it is worth.
at::Tensor attention_bound(const ModelConfig& config, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const at::Tensor& scores, const at::Tensor& probs,
                           const at::Tensor& out, const RoundingUnits& u,
                           const RotationNoise& of_q = {}, const RotationNoise& of_k = {});

}  // namespace ps::reference
