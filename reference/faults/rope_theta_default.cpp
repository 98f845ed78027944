#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const double right = scene.config().rope.theta;
  const auto with = [](double theta) {
    RopeChange change;
    change.frequencies = [theta](const StepContext& c) {
      ModelConfig other = *c.config;
      other.rope.theta = theta;
      return rope_frequencies(other, c.types);
    };
    return change;
  };
  for (const double theta : {1e4, 1e5, 5e5, 1e6, 1e7}) {
    if (theta != right) propose_tables(scene, out, with(theta), "", {{"theta", number(theta)}});
  }
  if (!scene.solving() || !tables_edit(scene, with(right)) || scene.config().head_dim < 4) return;
  const Fit fit = fit_number(scene, {1e2, 1e3, 5e3, 2e4, 5e4, 2e5, 3e6, right * 0.9, right * 1.1},
                             false, [&](double theta) { return tables_edit(scene, with(theta)); });
  if (!std::isfinite(fit.residual) || fit.value <= 1.0) return;
  const double digits = std::pow(10.0, std::floor(std::log10(fit.value)) - 2);
  const double rounded = std::round(fit.value / digits) * digits;
  propose_tables(scene, out, with(rounded), "", {{"theta", number(rounded)}}, 1);
  propose_tables(scene, out, with(fit.value), "", {{"theta", number(fit.value)}}, 1);
}

}  // namespace

extern const FaultSpec rope_theta_default;
const FaultSpec rope_theta_default = {
    {"rope-theta-default", "rope", 4,
     "the rotary frequencies come from another theta than the config's",
     "read rope_theta (in newer files rope_parameters.rope_theta) from the config",
     "needs positions beyond 0 and a head size of 4 or more", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
