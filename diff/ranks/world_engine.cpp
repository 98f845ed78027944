#include "diff/ranks/world_engine.h"

#include <set>

#include "core/points.h"
#include "diff/ranks/call.h"

namespace ps {

namespace {

std::set<std::string, std::less<>> lines_of(const std::string& text) {
  std::set<std::string, std::less<>> out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    out.insert(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

// Brings a rank's points to rank 0. Which ones is decided there, before the step.
class CollectTap final : public Tap {
 public:
  using Joined =
      std::function<Result<void>(const std::string& point, const std::vector<TensorView>& parts)>;
  CollectTap(World& world, const std::string& wanted, Joined joined = {})
      : world_(world), wanted_(lines_of(wanted)), joined_(std::move(joined)) {}

  bool wants(std::string_view point) override { return wanted_.contains(point); }
  void take(std::string_view point, const TensorView& value) override {
    if (!status.ok()) return;
    const std::string name(point);
    std::vector<Tensor> parts;
    status = world_.collect(value, name, parts);
    if (!status.ok() || !joined_) return;
    std::vector<TensorView> views;
    for (const Tensor& part : parts) views.push_back(part.view());
    status = joined_(name, views);
  }
  Result<void> status;

 private:
  World& world_;
  std::set<std::string, std::less<>> wanted_;
  Joined joined_;
};

Result<void> first_error(const Result<void>& done, const Result<void>& tapped) {
  return tapped.ok() ? done : tapped;
}

}  // namespace

WorldEngine::WorldEngine(World& world, Engine& own, PointJoiner joiner)
    : world_(world), own_(own), joiner_(std::move(joiner)) {}

std::string WorldEngine::wanted(Tap& tap) const {
  std::string out;
  for (const PointSpec& spec : point_table()) {
    const bool layered = spec.name.find(".N") != std::string_view::npos;
    for (std::int64_t layer = 0; layer < (layered ? joiner_.config.layers : 1); ++layer) {
      const std::string name = point_name(spec, layered ? layer : -1);
      if (!name.ends_with(":partial") && tap.wants(name)) out += name + "\n";
    }
  }
  return out;
}

Result<void> WorldEngine::step(Call call, Tap& tap,
                               const std::function<Result<void>(Tap&)>& own_part) {
  call.wanted = wanted(tap);
  std::string bytes = packed(call);
  PS_TRY_VOID(world_.share(bytes));
  CollectTap collect(world_, call.wanted, [&](const std::string& point, const auto& parts) {
    return joiner_.hand_out(point, parts, steps_, tap);
  });
  const Result<void> done = own_part(collect);
  ++steps_;
  return first_error(done, collect.status);
}

Result<void> WorldEngine::forward(const StepInputs& inputs, Tap& tap) {
  Call call;
  call.op = CallOp::kForward;
  call.inputs = inputs;
  return step(std::move(call), tap, [&](Tap& collect) {
    const StepInputs given =
        inputs_of_rank(inputs, joiner_.config, own_.past(), world_.size(), world_.rank());
    return own_.forward(given, collect);
  });
}

Result<void> WorldEngine::reorder_cache(const std::vector<std::int64_t>& beam_idx, Tap& tap) {
  Call call;
  call.op = CallOp::kReorder;
  call.beam_idx = beam_idx;
  return step(std::move(call), tap,
              [&](Tap& collect) { return own_.reorder_cache(beam_idx, collect); });
}

// A rank that is gone shows at the next forward step.
void WorldEngine::reset() {
  std::string bytes = packed(Call{CallOp::kReset, {}, {}, 1, 0, {}});
  static_cast<void>(world_.share(bytes).ok());
  own_.reset();
  steps_ = 0;
}

Result<Generated> WorldEngine::generate(const StepInputs& prompt, std::int64_t beams,
                                        std::int64_t new_tokens) {
  std::string bytes = packed(Call{CallOp::kGenerate, prompt, {}, beams, new_tokens, {}});
  PS_TRY_VOID(world_.share(bytes));
  return own_.generate(prompt, beams, new_tokens);
}

Result<void> WorldEngine::dismiss() {
  std::string bytes = packed(Call{CallOp::kDismiss, {}, {}, 1, 0, {}});
  return world_.share(bytes);
}

Result<void> serve(World& world, Engine& own, const ModelConfig& whole) {
  while (true) {
    std::string bytes;
    PS_TRY_VOID(world.share(bytes));
    PS_TRY(const Call call, unpacked_call(bytes));
    CollectTap tap(world, call.wanted);
    switch (call.op) {
      case CallOp::kForward: {
        const StepInputs given =
            inputs_of_rank(call.inputs, whole, own.past(), world.size(), world.rank());
        PS_TRY_VOID(first_error(own.forward(given, tap), tap.status));
        break;
      }
      case CallOp::kReorder:
        PS_TRY_VOID(first_error(own.reorder_cache(call.beam_idx, tap), tap.status));
        break;
      case CallOp::kReset:
        own.reset();
        break;
      case CallOp::kGenerate: {
        PS_TRY(const Generated same, own.generate(call.inputs, call.beams, call.new_tokens));
        static_cast<void>(same);  // rank 0's is taken
        break;
      }
      case CallOp::kDismiss:
        return {};
    }
  }
}

}  // namespace ps
