// One step of the reference, op by op: its own run, and replays from given points.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/own_run.h"
#include "reference/bounds.h"
#include "reference/engine.h"
#include "reference/fault.h"

namespace ps::reference {

// A captured value in the reference's type.
at::Tensor from_capture(const std::string& point, const TensorView& view, const Types& types);

class StepByOps final : public ReferenceStep, public OwnRun {
 public:
  StepByOps(ReferenceEngine& engine, StepInputs inputs);

  const std::vector<OpInfo>& ops() const override { return infos_; }
  Result<Replayed> replay(std::string_view point, const PointLookup& lookup,
                          const Rounding& rounding) override;
  Result<void> suspects(std::string_view point, const PointLookup& lookup, const Rounding& rounding,
                        const SuspectOptions& options, const SuspectCall& call) override;
  Result<Tensor> own(std::string_view point) override;
  Result<void> finish() override;
  OwnRunState put_down(bool last) const override;
  Result<void> take_up(OwnRunState state) override;

 private:
  // A value on the way to the replayed point: exact, and what the candidate's type makes of it.
  struct Value {
    at::Tensor exact;
    at::Tensor same_type;  // undefined where the value was given as it was: the two are one
  };
  struct Pass {
    const PointLookup& lookup;
    Rounding rounding;
    std::map<std::string, Value> known;
    std::vector<std::string> basis;
    std::vector<const Op*> ran;             // the net's own ops, in order
    bool stored_coarsely = false;           // a given value lost bits that its readers had
    const Overrides* wrong = nullptr;       // ops done wrong, in the reference's types
    const Overrides* wrong_same = nullptr;  // and in the candidate's
  };
  class SceneHere;
  struct Near;
  using FaultList = std::vector<const FaultSpec*>;
  void pairs(SceneHere& scene, std::vector<Near> nears, const FaultList& faults,
             const SuspectCall& call, const std::function<bool()>& late);
  Result<Value> value_of(const std::string& name, Pass& pass);
  std::optional<RotationNoise> noise_of(const Point& name, const Pass& pass);
  at::Tensor context_bound_of(const Op& context, Pass& pass, const Tensors& in,
                              const at::Tensor& exact, at::Tensor bound);
  at::Tensor ties_of(const Op& lists, Pass& pass, const Tensors& in, const at::Tensor& exact,
                     const RoundingUnits& units);
  Result<Value> run_op(const Op& op, Pass& pass, bool with_same_type);
  // The op's value and its bound; `chained`: values on the way were computed, not given.
  Result<void> run_last(const Op& op, Pass& pass, at::Tensor& exact, at::Tensor& bound);
  const Net& same_net(DType run);
  Weights& same_type_weights(DType run);
  void advance();  // the own run's next op

  ReferenceEngine& engine_;
  StepInputs inputs_;
  Net net_;                      // in the reference's types
  std::optional<Net> same_net_;  // in the candidate's types
  DType same_dtype_ = DType::kF64;
  std::vector<OpInfo> infos_;
  std::size_t done_ = 0;  // ops of the own run
  std::map<std::string, int> readers_left_;
  std::map<std::string, bool> asked_;
  std::map<std::string, at::Tensor> points_;
  Cache next_cache_;
  bool finished_ = false;
  int pair_searches_ = 0;
};

}  // namespace ps::reference
