// The own run of a step, put down and taken up again (core/own_run.h).
#include "reference/bridge.h"
#include "reference/step.h"

namespace ps::reference {

namespace {

using Kept = std::map<std::string, Tensor>;

Kept kept(const std::map<std::string, at::Tensor>& values) {
  Kept out;
  for (const auto& [name, value] : values) {
    out.emplace(name, Tensor::copy_of(view_of(value.contiguous())));
  }
  return out;
}

at::Tensor tensor_of(const Tensor& tensor) { return borrow(tensor.view()).clone(); }

}  // namespace

OwnRunState StepByOps::put_down(bool last) const {
  return {static_cast<std::int64_t>(done_), kept(points_), last ? Kept() : kept(next_cache_),
          kept(engine_.cache_)};
}

Result<void> StepByOps::take_up(OwnRunState state) {
  const auto all = static_cast<std::int64_t>(net_.ops().size());
  if (done_ != 0 || state.ops < 0 || state.ops > all) {
    return bad_input("own run", "cannot be taken up here", "0 to " + std::to_string(all) + " ops",
                     std::to_string(state.ops));
  }
  while (static_cast<std::int64_t>(done_) < state.ops) {
    const Op& op = net_.ops()[done_++];
    asked_[op.point] = true;
    for (const Point& name : op.inputs) --readers_left_[name];
  }
  if (state.ops < all) {  // what the rest reads must be there: a lookup later would throw
    for (const Op& op : net_.ops()) {
      if (!asked_[op.point] || readers_left_[op.point] == 0 || state.points.contains(op.point)) {
        continue;
      }
      return bad_input("own run", "lacks a value that its rest reads", op.point);
    }
  }
  for (const auto& [name, value] : state.points) points_[name] = tensor_of(value);
  for (const auto& [name, value] : state.caches) next_cache_[name] = tensor_of(value);
  for (const auto& [name, value] : state.past) engine_.cache_[name] = tensor_of(value);
  return {};
}

}  // namespace ps::reference
