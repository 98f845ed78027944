#include "reference/bridge.h"
#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const StepContext& c = scene.context();
  const at::Tensor ids = from_int64(c.inputs->input_ids, {c.batch(), c.length()});
  const std::int64_t vocabulary = scene.config().vocab_size;
  for (const std::int64_t tp : {2, 3, 4, 8}) {
    for (const bool clamped : {false, true}) {
      propose_wrap(scene, out, scene.ops("embed"),
                   [=](const Op& good, const Tensors& in, const Tensors& w) {
                     const std::int64_t n =
                         (vocabulary + tp - 1) / tp;  // the last shard may be short
                     at::Tensor y = good.run(in, w);
                     for (std::int64_t r = 0; r < tp; ++r) {
                       const at::Tensor inside = ids.ge(r * n).logical_and(ids.lt((r + 1) * n));
                       // Outside, the local index is 0, or the nearest one in range.
                       const at::Tensor local =
                           clamped ? ids.clamp(r * n, std::min(vocabulary, (r + 1) * n) - 1)
                                   : at::full_like(ids, r * n);
                       const at::Tensor foreign = lookup_rows(w[0], local, y.scalar_type());
                       y = y + foreign * inside.logical_not().unsqueeze(-1).to(y.scalar_type());
                     }
                     return y;
                   },
                   clamped ? "nearest row of the shard" : "first row of the shard",
                   {{"tp", std::to_string(tp)}});
    }
  }
}

}  // namespace

extern const FaultSpec embedding_shard_not_masked;
const FaultSpec embedding_shard_not_masked = {
    {"embedding-shard-not-masked", "shard", 1,
     "a vocabulary-parallel embedding adds rows for tokens of other ranks: their lookups were not "
     "zeroed",
     "zero the rows of tokens outside the rank's range before the all-reduce",
     "needs more than one rank", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
