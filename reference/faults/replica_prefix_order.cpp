#include <numeric>

#include "reference/bridge.h"
#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

void propose(Scene& scene, Proposals& out) {
  const std::int64_t p = scene.config().replicas, batch = scene.context().batch();
  const std::vector<Point> caches = scene.ops("cache_append");
  if (scene.context().past != 0) return;
  const auto propose_rows = [&](const std::vector<std::int64_t>& of_row, const std::string& words,
                                const Parameters& parameters) {
    const at::Tensor index = from_int64(of_row, {p * batch});
    propose_wrap(
        scene, out, caches,
        [index](const Op& good, const Tensors& in, const Tensors& w) {
          const at::Tensor right = good.run(in, w);
          if (w.empty()) return right;
          const at::Tensor prefix = w[0].index_select(0, index);
          return at::cat({prefix, right.slice(2, prefix.size(2))}, 2);
        },
        words, parameters);
  };
  std::vector<std::int64_t> tiled;
  for (std::int64_t r = 0; r < p * batch; ++r) tiled.push_back(r % p);
  if (batch > 1) propose_rows(tiled, "tiled: row r takes the prefix of replica r mod P", {});
  std::vector<std::int64_t> order(static_cast<std::size_t>(p));
  std::iota(order.begin(), order.end(), 0);
  int tried = 0;
  while (std::next_permutation(order.begin(), order.end()) && ++tried < 120) {
    std::vector<std::int64_t> of_row;
    std::string list = "[";
    for (const std::int64_t replica : order) {
      of_row.insert(of_row.end(), static_cast<std::size_t>(batch), replica);
      list += (list.size() > 1 ? "," : "") + std::to_string(replica);
    }
    propose_rows(of_row, "replicas permuted", {{"prefix_of_replica", list + "]"}});
  }
}

}  // namespace

extern const FaultSpec replica_prefix_order;
const FaultSpec replica_prefix_order = {
    {"replica-prefix-order", "replica", 4, "replicas have each other's prefix",
     "row p*B + b takes the prefix of replica p: repeat each prefix B times (repeat_interleave), "
     "never tile it",
     "needs more than one replica, a prefix, and for tiling more than one sample", false},
    [](const ModelConfig& c) { return c.replicas > 1 && c.prefix_tokens > 0; },
    propose};

}  // namespace ps::reference::faults
