#include "reference/bridge.h"
#include "reference/fault_tools.h"
#include "reference/ops/blocks.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  if (scene.earlier().empty()) return;
  const StepInputs before = scene.earlier().back();
  const StepContext& now = scene.context();
  if (before.batch == now.batch() && before.length == now.length() &&
      before.input_ids != now.inputs->input_ids) {
    const at::Tensor ids = from_int64(before.input_ids, {before.batch, before.length});
    propose_wrap(
        scene, out, scene.ops("embed"),
        [ids](const Op& good, const Tensors& in, const Tensors& w) {
          return lookup_rows(w[0], ids, good.run(in, w).scalar_type());
        },
        "token ids");
  }
  if (before.length != now.length()) return;
  RopeChange change;
  change.positions = [length = before.length](const StepContext& c) {
    return rope_positions(c) - length;
  };
  propose_tables(scene, out, change, "positions", {});
}

}  // namespace

extern const FaultSpec runtime_cuda_graph_stale;
const FaultSpec runtime_cuda_graph_stale = {{"runtime-cuda-graph-stale", "runtime", 4,
                                             "a step ran on the inputs of the step before: a "
                                             "captured graph replays old pointers or lengths",
                                             "copy new inputs into the captured buffers before "
                                             "each replay, and capture again when a length changes",
                                             "needs two decode steps", true},
                                            any_model,
                                            propose};

}  // namespace ps::reference::faults
