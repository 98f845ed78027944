#include <algorithm>
#include <span>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>

#include "core/file.h"
#include "core/trace.h"
#include "core/trace_manifest.h"
#include "core/zstd.h"

namespace ps {

namespace {

constexpr std::string_view kManifest = "trace.json";

TensorView view_of(const std::vector<std::int64_t>& values, Shape shape) {
  return {DType::kI64, std::move(shape), std::as_bytes(std::span(values))};
}

}  // namespace

void remove_other_form(const std::filesystem::path& dir, const TraceStep& step) {
  const Packing other{step.file.ends_with(kPackedEnding) ? 0 : 1};
  std::error_code ignored;
  std::filesystem::remove(dir / step_file_name(step.step, step.rank, other), ignored);
}

Result<void> write_step_inputs(SafetensorsWriter& writer, const StepInputs& inputs) {
  const std::int64_t batch = inputs.batch;
  PS_TRY_VOID(writer.add("input_ids", view_of(inputs.input_ids, {batch, inputs.length})));
  if (inputs.attention_mask) {
    const auto columns = static_cast<std::int64_t>(inputs.attention_mask->size()) / batch;
    PS_TRY_VOID(writer.add("attention_mask", view_of(*inputs.attention_mask, {batch, columns})));
  }
  if (inputs.position_ids) {
    const Shape shape = {batch, inputs.length};
    PS_TRY_VOID(writer.add("position_ids", view_of(*inputs.position_ids, shape)));
  }
  return {};
}

Result<TraceWriter> TraceWriter::create(const std::filesystem::path& dir, TraceManifest manifest,
                                        Packing packing) {
  if (packing.on() && !has_zstd()) return no_zstd(dir.string());
  PS_TRY_VOID(manifest_text(manifest, {}));  // a config that is no JSON is found before the run
  PS_TRY_VOID(ensure_directory(dir));
  // An older trace's manifest must not speak for the files that come now.
  std::error_code ignored;
  std::filesystem::remove(dir / kManifest, ignored);
  TraceWriter writer;
  writer.dir_ = dir;
  writer.manifest_ = std::move(manifest);
  writer.packing_ = packing;
  return writer;
}

Result<void> TraceWriter::begin_step(TraceStep step, const StepInputs* inputs) {
  PS_CHECK(!writer_, "the step before has not ended");
  const bool twice = std::any_of(steps_.begin(), steps_.end(), [&](const TraceStep& s) {
    return s.step == step.step && s.rank == step.rank;
  });
  PS_CHECK(!twice, "step " + std::to_string(step.step) + " is written twice");
  step.file = step_file_name(step.step, step.rank, packing_);
  PS_TRY(writer_, SafetensorsWriter::create(dir_ / step.file, packing_));
  if (step.tensors != nullptr) {  // its manifest apart, which would not be this trace's
    for (const auto& [key, value] : step.tensors->metadata()) {
      if (key != "parscope") writer_->set_metadata(key, value);
    }
  }
  step.tensors = nullptr;
  steps_.push_back(std::move(step));
  if (inputs != nullptr) PS_TRY_VOID(write_step_inputs(*writer_, *inputs));
  return {};
}

Result<void> TraceWriter::add(std::string_view name, const TensorView& value) {
  PS_CHECK(writer_.has_value(), "no step has begun");
  return writer_->add(name, value);
}

Result<void> TraceWriter::end_step() {
  PS_CHECK(writer_.has_value(), "no step has begun");
  PS_TRY_VOID(writer_->close());
  writer_.reset();
  remove_other_form(dir_, steps_.back());
  return {};
}

Result<void> TraceWriter::close() {
  PS_CHECK(!writer_, "the last step has not ended");
  std::sort(steps_.begin(), steps_.end(), [](const TraceStep& a, const TraceStep& b) {
    return std::tie(a.step, a.rank) < std::tie(b.step, b.rank);
  });
  PS_TRY(const std::string text, manifest_text(manifest_, steps_));
  return write_text(dir_ / kManifest, text);
}

}  // namespace ps
