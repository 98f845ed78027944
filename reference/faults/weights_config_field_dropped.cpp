#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const ModelConfig& right = scene.config();
  for (int fields = 1; fields < 8; ++fields) {
    const bool eps = (fields & 1) != 0, theta = (fields & 2) != 0, scaling = (fields & 4) != 0;
    if ((eps && right.rms_norm_eps == 1e-6) || (theta && right.rope.theta == 1e4) ||
        (scaling && right.rope.kind == RopeKind::kDefault)) {
      continue;
    }
    RopeChange change;
    change.frequencies = [theta, scaling](const StepContext& c) {
      ModelConfig other = *c.config;
      if (theta) other.rope.theta = 1e4;
      if (scaling) other.rope.kind = RopeKind::kDefault;
      return rope_frequencies(other, c.types);
    };
    if (scaling) change.scale = 1.0;
    Edit edit = theta || scaling ? tables_edit(scene, change) : Edit();
    const std::vector<Point> norms = scene.ops("rms_norm");
    if (eps && !norms.empty()) {
      const Edit default_eps = [norms](const Net& net, Overrides& overrides) {
        const Types types = net.context().types;
        wrap(norms, [types](const Op& good, const Tensors& in, const Tensors& w) {
          const at::Tensor like = good.run(in, w);  // heads are normed one by one
          return rms_norm(in[0].reshape(like.sizes()), w[0], 1e-6, types);
        })(net, overrides);
      };
      edit = edit ? both(edit, default_eps) : default_eps;
    }
    if (!edit) continue;
    std::string words;
    if (eps) words = "rms_norm_eps";
    if (theta) words = joined(words, "rope_theta");
    if (scaling) words = joined(words, "rope_scaling");
    out.push_back({words, {}, edit});
  }
}

}  // namespace

extern const FaultSpec weights_config_field_dropped;
const FaultSpec weights_config_field_dropped = {
    {"weights-config-field-dropped", "weights", 3,
     "fields of the config were lost at conversion: their defaults are used",
     "carry the whole config over, and compare it field by field with the original",
     "needs a config whose fields are not the defaults", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
