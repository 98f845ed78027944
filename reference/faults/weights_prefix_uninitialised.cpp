#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t prefix = scene.config().prefix_tokens, batch = scene.context().batch();
  const std::vector<Point> caches = scene.ops("cache_append");
  if (!scene.solving() || caches.empty() || caches.back() != scene.point()) return;
  if (scene.context().past != 0 || !same_shape(scene.observed(), scene.expected())) return;
  const at::Tensor found = scene.observed().slice(2, 0, prefix);
  // A parameter: the same for all samples of a replica.
  const at::Tensor rows =
      at::nan_to_num(found, 12345.0)
          .reshape({found.size(0) / batch, batch, found.size(1), prefix, found.size(3)});
  if (!rows.eq(rows.slice(1, 0, 1)).all().item<bool>()) return;
  // Nor is it the checkpoint's in some other order or scale.
  const at::Tensor right = scene.expected().slice(2, 0, prefix);
  const at::Tensor cosine = at::nan_to_num((found * right).sum() / (found.norm() * right.norm()));
  if (std::fabs(cosine.item<double>()) > 0.9 || found.eq(0).all().item<bool>()) return;
  const at::Tensor sorted = std::get<0>(at::nan_to_num(found).flatten().sort());
  if (at::allclose(sorted, std::get<0>(right.flatten().sort()), 1e-2, 1e-5)) return;
  out.push_back({"",
                 {},
                 wrap({scene.point()},
                      [found, prefix](const Op& good, const Tensors& in, const Tensors& w) {
                        const at::Tensor all = good.run(in, w);
                        return at::cat({found.to(all.scalar_type()), all.slice(2, prefix)}, 2);
                      }),
                 0,
                 true});
}

}  // namespace

extern const FaultSpec weights_prefix_uninitialised;
const FaultSpec weights_prefix_uninitialised = {
    {"weights-prefix-uninitialised", "weights", 3,
     "the prefix in the cache is neither the checkpoint's nor zero: prefix_k or prefix_v was never "
     "loaded",
     "load prefix_k and prefix_v from the checkpoint, and initialise them where there is none",
     "needs a prefix", false},
    [](const ModelConfig& c) { return c.prefix_tokens > 0; },
    propose};

}  // namespace ps::reference::faults
