#include "diff/run/record.h"

#include <algorithm>

namespace ps {

bool matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool is_recorded(const RecordOptions& options, std::string_view point) {
  return options.points.empty() ||
         std::any_of(options.points.begin(), options.points.end(),
                     [&](const std::string& pattern) { return matches(pattern, point); });
}

namespace {

// Writes wanted points as they come and keeps the logits, which the script needs.
class Recorder final : public Tap {
 public:
  Recorder(TraceWriter& writer, const RecordOptions& options)
      : writer_(writer), options_(options) {}

  bool wants(std::string_view point) override { return point == "lm_head" || recorded(point); }
  void take(std::string_view point, const TensorView& value) override {
    if (point == "lm_head") logits_ = Tensor::copy_of(value);
    if (!recorded(point) || !status_.ok()) return;
    ++counted_.points;
    counted_.bytes += static_cast<std::int64_t>(value.bytes.size());
    status_ = writer_.add(point, value);
  }

  const Result<void>& status() const { return status_; }
  Recorded& counted() { return counted_; }
  std::optional<TensorView> logits() const {
    return logits_.shape().empty() ? std::nullopt : std::optional(logits_.view());
  }

 private:
  bool recorded(std::string_view point) const { return is_recorded(options_, point); }
  TraceWriter& writer_;
  const RecordOptions& options_;
  Result<void> status_;
  Recorded counted_;
  Tensor logits_;
};

}  // namespace

Tensor input_mask(const StepInputs& inputs, std::int64_t heads) {
  const std::vector<std::int64_t>& cells = *inputs.visible;
  const auto columns =
      static_cast<std::int64_t>(cells.size()) / (inputs.batch * heads * inputs.length);
  Tensor out(DType::kBool, {inputs.batch, heads, inputs.length, columns});
  std::transform(cells.begin(), cells.end(), out.as<std::uint8_t>().begin(),
                 [](std::int64_t cell) { return static_cast<std::uint8_t>(cell != 0 ? 1 : 0); });
  return out;
}

Result<Recorded> record(Engine& engine, const RunPlan& plan, const std::filesystem::path& dir,
                        TraceManifest manifest, const RecordOptions& options) {
  PS_TRY(TraceWriter writer, TraceWriter::create(dir, std::move(manifest), options.packing));
  Script script(plan);
  Recorder recorder(writer, options);
  engine.reset();
  const std::int64_t total = script.total_steps();
  while (std::optional<ScriptStep> next = script.next(recorder.logits())) {
    if (options.progress) options.progress(next->step.step, total);
    const bool forward = next->step.op == StepOp::kForward;
    PS_TRY_VOID(writer.begin_step(next->step, forward ? &next->inputs : nullptr));
    if (next->inputs.visible) {
      const Tensor given = input_mask(next->inputs, plan.visible_heads);
      PS_TRY_VOID(writer.add("input_mask", given.view()));
    }
    PS_TRY_VOID(forward ? engine.forward(next->inputs, recorder)
                        : engine.reorder_cache(next->step.beam_idx, recorder));
    if (!recorder.status().ok()) return recorder.status().error();
    PS_TRY_VOID(writer.end_step());
    ++recorder.counted().steps;
  }
  PS_TRY_VOID(writer.close());
  return recorder.counted();
}

}  // namespace ps
