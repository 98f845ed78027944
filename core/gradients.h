// Gradients of a run, by the reference's autograd: of every parameter, and of any point on the way.
// The flow can be cut at ops, as no_grad or detach() cut it, to see what that would do.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/checkpoint.h"
#include "core/engine.h"
#include "core/result.h"

namespace ps {

enum class GradientLoss : std::uint8_t {
  kNextToken,     // mean cross entropy of real next tokens
  kNextTokenAll,  // the same mean over all positions, padding included
  kNextTokenSum,  // their sum instead of the mean
  kSumOfLogits,
};
// "next-token", "next-token-all", "next-token-sum", "sum".
std::string_view to_string(GradientLoss loss);
std::optional<GradientLoss> gradient_loss(std::string_view name);
inline constexpr GradientLoss kGradientLosses[] = {
    GradientLoss::kNextToken, GradientLoss::kNextTokenAll, GradientLoss::kNextTokenSum,
    GradientLoss::kSumOfLogits};

struct GradientRequest {
  GradientLoss loss = GradientLoss::kNextToken;
  // The gradient of the loss by the logits [B,S,V]; then the loss itself is not asked.
  std::optional<TensorView> cotangent;
  std::vector<std::string> cuts;                      // points whose op's result is detached
  std::function<bool(std::string_view point)> wants;  // points, beside all parameters; null: none
};

struct Gradient {
  Tensor value;  // float64
  Tensor
      bound;  // float64: the error that rounding explains, from the same passes in the run's type
};

class GradientReference {
 public:
  virtual ~GradientReference() = default;
  // The ops of one pass over the prompt, to see what depends on what.
  virtual Result<std::vector<OpInfo>> ops(const StepInputs& inputs) = 0;
  // By parameter or point. What no gradient reached is not in it.
  virtual Result<std::map<std::string, Gradient>> gradients(const StepInputs& inputs,
                                                            const GradientRequest& request) = 0;
  // The loss alone, for finite differences: `nudge` is added to the parameter before the pass.
  virtual Result<double> loss(const StepInputs& inputs, GradientLoss loss,
                              const std::string& parameter, const TensorView& nudge) = 0;
};

// `run`: the type whose rounding the bounds allow for; options.dtype is the truth's own.
Result<std::unique_ptr<GradientReference>> open_gradient_reference(const Model& model,
                                                                   const ReferenceOptions& options,
                                                                   DType run);

}  // namespace ps
