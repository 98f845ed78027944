// Forward and backward passes for their gradients: in float64, and once more in the candidate's own
// type, whose error says what rounding may do to a gradient. No op knows that it is differentiated.
#pragma once

#include "core/gradients.h"
#include "reference/net.h"
#include "reference/weights.h"

namespace ps::reference {

class GradientRuns final : public GradientReference {
 public:
  GradientRuns(const Model& model, const ReferenceOptions& options, DType run);

  Result<std::vector<OpInfo>> ops(const StepInputs& inputs) override;
  Result<std::map<std::string, Gradient>> gradients(const StepInputs& inputs,
                                                    const GradientRequest& request) override;
  Result<double> loss(const StepInputs& inputs, GradientLoss loss, const std::string& parameter,
                      const TensorView& nudge) override;

 private:
  using Named = std::map<std::string, at::Tensor>;
  StepContext context(const StepInputs& inputs, at::ScalarType type) const;
  Named backward(const StepInputs& inputs, const GradientRequest& request, at::ScalarType type);

  ModelConfig config_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  ReferenceOptions options_;
  DType run_;
};

// Mean over the positions whose next token is real, and that are real themselves; or one of the
// other losses.
at::Tensor loss_of(const at::Tensor& logits, const StepInputs& inputs, GradientLoss loss,
                   at::ScalarType wide);

}  // namespace ps::reference
