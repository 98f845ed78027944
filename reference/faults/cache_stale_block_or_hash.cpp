#include "reference/bridge.h"
#include "reference/fault_tools.h"

namespace ps::reference::faults {

namespace {

constexpr double kSame = 0.05;  // of a slot's size

// Whose slot this is, by distance: another request's of the same number rather than one that holds
// the same by chance (all padding is alike in the first layer); -1: no other request's.
std::int64_t owner_of(const at::Tensor& apart, std::int64_t i, std::int64_t slots) {
  const std::int64_t row = i / slots;
  std::int64_t best = -1;
  double least = kSame;
  for (std::int64_t other = i % slots; other < apart.size(0); other += slots) {
    const double d = apart[other].item<double>();
    if (other / slots == row || d > least) continue;
    least = d;
    best = other;
  }
  if (best >= 0) return best;
  const std::int64_t nearest = apart.argmin().item<std::int64_t>();
  const bool fits = apart[nearest].item<double>() <= kSame && nearest / slots != row;
  return fits ? nearest : -1;
}

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> caches = scene.ops("cache_append");
  if (!scene.solving() || caches.empty() || caches.back() != scene.point()) return;
  if (!same_shape(scene.observed(), scene.expected())) return;
  const std::int64_t rows = scene.expected().size(0), slots = scene.expected().size(2);
  if (rows * slots > 4096) return;
  const auto flat = [](const at::Tensor& x) {  // [R*C, K*D]: a slot is a row
    return x.transpose(1, 2).flatten(2).flatten(0, 1).contiguous();
  };
  const at::Tensor right = flat(scene.expected()), found = flat(scene.observed());
  const at::Tensor size = right.norm(2, 1).clamp_min(1e-12);
  const at::Tensor off = (found - right).norm(2, 1) / size;
  const std::int64_t prefix = scene.config().prefix_tokens;
  std::vector<std::int64_t> source;
  std::int64_t replaced = 0;
  for (std::int64_t i = 0; i < rows * slots; ++i) {
    source.push_back(i);
    if (off[i].item<double>() < kSame) continue;
    if (i % slots < prefix) return;  // a wrong prefix is another fault
    const at::Tensor apart = (right - found[i]).norm(2, 1) / size;
    source.back() = owner_of(apart, i, slots);
    if (source.back() < 0) return;
    ++replaced;
  }
  if (replaced == 0 || replaced == rows * (slots - prefix)) return;
  const at::Tensor index = from_int64(source, {rows * slots});
  out.push_back({"",
                 {{"slots", std::to_string(replaced)}},
                 wrap({scene.point()},
                      [index, rows, slots](const Op& good, const Tensors& in, const Tensors& w) {
                        const at::Tensor all = good.run(in, w);
                        const at::Tensor by_slot = all.transpose(1, 2).flatten(0, 1);
                        return by_slot.index_select(0, index)
                            .view({rows, slots, all.size(1), all.size(3)})
                            .transpose(1, 2)
                            .contiguous();
                      }),
                 2});
}

}  // namespace

extern const FaultSpec cache_stale_block_or_hash;
const FaultSpec cache_stale_block_or_hash = {
    {"cache-stale-block-or-hash", "cache", 4,
     "slots of the cache hold another request's tokens: a block was reused while something still "
     "pointed to it",
     "drop block tables, hashes and reference counts of a block before it is handed out again",
     "needs another request in the batch, and a captured cache", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
