#include "core/gradients.h"

namespace ps {

std::string_view to_string(GradientLoss loss) {
  switch (loss) {
    case GradientLoss::kNextToken:
      return "next-token";
    case GradientLoss::kNextTokenAll:
      return "next-token-all";
    case GradientLoss::kNextTokenSum:
      return "next-token-sum";
    case GradientLoss::kSumOfLogits:
      return "sum";
  }
  return "";
}

std::optional<GradientLoss> gradient_loss(std::string_view name) {
  for (const GradientLoss loss : kGradientLosses) {
    if (to_string(loss) == name) return loss;
  }
  return std::nullopt;
}

}  // namespace ps
