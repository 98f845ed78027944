#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

// Every rule gives numbers that fall from 1 (or less) to above 0.
bool no_rule_gives(const at::Tensor& found) {
  const std::int64_t n = found.numel();
  if (n < 3) return false;
  const at::Tensor f = found.flatten().to(at::kDouble);
  const at::Tensor rises = f.slice(0, 1).gt(f.slice(0, 0, n - 1) * 1.01);
  return !at::isfinite(f).all().item<bool>() || f.gt(1.01).any().item<bool>() ||
         f.le(0).any().item<bool>() || rises.any().item<bool>();
}

void propose(Scene& scene, Proposals& out) {
  // Where the tables were captured and are right, this is not the cause.
  if (scene.ops("rope_table").empty() && scene.ops("rope_freq").empty()) return;
  // Where they were captured: numbers so small, so large or so wrong that no theta gives them.
  if (scene.point() == "model.rotary_emb:inv_freq" && scene.solving()) {
    const at::Tensor found = scene.observed();
    const at::Tensor odd = at::isfinite(found)
                               .logical_not()
                               .logical_or(found.abs() < 1e-12)
                               .logical_or(found.abs() > 1e3);
    if (odd.to(at::kDouble).mean().item<double>() > 0.5) {
      out.push_back({"captured values kept",
                     {},
                     wrap({scene.point()},
                          [found](const Op&, const Tensors&, const Tensors&) { return found; })});
    } else if (no_rule_gives(found)) {
      out.push_back({"they are what the memory held",
                     {},
                     wrap({scene.point()},
                          [found](const Op&, const Tensors&, const Tensors&) { return found; }),
                     0,
                     true});
    }
  }
  RopeChange change;
  change.frequencies = [](const StepContext& c) {
    return at::zeros({c.config->head_dim / 2}, at::TensorOptions().dtype(c.types.island));
  };
  // With no table in sight, a rotation that is simply not called looks the same, and is likelier.
  const bool in_sight = scene.net().find(scene.point())->kind.starts_with("rope_");
  propose_tables(scene, out, change, "", {}, in_sight ? 0 : 1);
}

}  // namespace

extern const FaultSpec rope_inv_freq_uninitialised;
const FaultSpec rope_inv_freq_uninitialised = {
    {"rope-inv-freq-uninitialised", "rope", 4,
     "the inverse frequencies were never computed: all of them are zero, so nothing is rotated",
     "recompute inv_freq after the module left the meta device; it is not in the checkpoint",
     "needs a position other than 0", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
