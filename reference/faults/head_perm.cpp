#include <numeric>

#include "reference/bridge.h"
#include "reference/fault_tools.h"
#include "reference/weights.h"

namespace ps::reference::faults {

namespace {

// The context's heads regrouped: o_proj's input block h is the context's block order[h].
BadLinear reordered(const std::vector<std::int64_t>& order) {
  const at::Tensor index = from_int64(order, {static_cast<std::int64_t>(order.size())});
  return [index](const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) {
    const at::Tensor blocks = x.reshape({x.size(0), x.size(1), index.size(0), -1});
    const at::Tensor y = linear_map(blocks.index_select(2, index).reshape(x.sizes()), w);
    return bias.defined() ? y + bias : y;
  };
}

void propose(Scene& scene, Proposals& out) {
  const std::vector<Point> points = linears(scene, {".self_attn.o_proj"});
  const std::int64_t heads = scene.config().heads;
  const auto propose = [&](const std::vector<std::int64_t>& order, const std::string& words) {
    std::string list = "[";
    for (const std::int64_t h : order) list += (list.size() > 1 ? "," : "") + std::to_string(h);
    propose_linear(scene, out, points, reordered(order), words, {{"order", list + "]"}});
  };
  std::vector<std::int64_t> order;
  for (std::int64_t h = heads; h-- > 0;) order.push_back(h);
  propose(order, "reversed");
  for (std::int64_t by = 1; by < std::min<std::int64_t>(heads, 16); ++by) {
    std::vector<std::int64_t> rolled;
    for (std::int64_t h = 0; h < heads; ++h) rolled.push_back((h + by) % heads);
    propose(rolled, "rolled by " + std::to_string(by));
  }
  for (std::int64_t columns = 2; columns < heads; ++columns) {
    if (heads % columns != 0) continue;
    std::vector<std::int64_t> regrouped;
    for (std::int64_t h = 0; h < heads; ++h)
      regrouped.push_back(h % columns * (heads / columns) + h / columns);
    propose(regrouped, "groups and members exchanged");
  }
  // Any other order: o is linear in what each head would give in each place. Least squares over
  // tokens and channels says which head stands where.
  if (!scene.solving() || points.empty() || points.back() != scene.point() || heads > 16) return;
  if (!same_shape(scene.observed(), scene.expected()) ||
      scene.net().find(points.back())->weights.size() > 1)
    return;
  const at::Tensor x = scene.value(scene.net().find(points.back())->inputs[0]);
  const at::Tensor w = scene.weight(scene.net().find(points.back())->weights[0]).to(at::kDouble);
  const std::int64_t size = x.size(-1) / heads;
  const at::Tensor counted = scene.counts().expand_as(scene.observed());
  Tensors columns;
  for (std::int64_t place = 0; place < heads; ++place) {
    for (std::int64_t head = 0; head < heads; ++head) {
      const at::Tensor part = at::linear(x.slice(-1, head * size, (head + 1) * size),
                                         w.slice(1, place * size, (place + 1) * size));
      columns.push_back((part * counted).flatten());
    }
  }
  const at::Tensor a = at::stack(columns, 1),
                   y = (scene.observed() * counted).flatten().unsqueeze(1);
  const at::Tensor gram = at::matmul(a.t(), a) + at::eye(heads * heads, a.options()) * 1e-9;
  const at::Tensor mix =
      std::get<0>(at::linalg_solve_ex(gram, at::matmul(a.t(), y))).view({heads, heads});
  const at::Tensor best = mix.argmax(1);
  std::vector<std::int64_t> solved;
  std::set<std::int64_t> used;
  bool moved = false;
  for (std::int64_t place = 0; place < heads; ++place) {
    solved.push_back(best[place].item<std::int64_t>());
    used.insert(solved.back());
    moved = moved || solved.back() != place;
  }
  if (moved && static_cast<std::int64_t>(used.size()) == heads) propose(solved, "");
}

}  // namespace

extern const FaultSpec head_perm;
const FaultSpec head_perm = {
    {"head-perm", "attention", 1, "attention heads reach o_proj in another order",
     "join the heads in their own order", "needs more than one head", false},
    any_model,
    propose};

}  // namespace ps::reference::faults
