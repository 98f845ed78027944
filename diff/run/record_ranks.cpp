#include "diff/run/record_ranks.h"

#include "core/file.h"
#include "core/points.h"
#include "core/trace_manifest.h"
#include "diff/shard/join.h"

namespace ps {

namespace {

// Writes one rank's points as they come; rank 0 keeps the logits, which the script needs.
class RankRecorder final : public Tap {
 public:
  RankRecorder(const RecordOptions& options, bool keeps_logits)
      : options_(options), keeps_logits_(keeps_logits) {}

  bool wants(std::string_view point) override {
    return (keeps_logits_ && point == "lm_head") || is_recorded(options_, point);
  }
  void take(std::string_view point, const TensorView& value) override {
    if (keeps_logits_ && point == "lm_head") logits = Tensor::copy_of(value);
    if (!is_recorded(options_, point) || !status.ok()) return;
    ++counted.points;
    counted.bytes += static_cast<std::int64_t>(value.bytes.size());
    status = writer->add(point, value);
  }

  std::optional<SafetensorsWriter> writer;
  Result<void> status;
  Recorded counted;
  Tensor logits;

 private:
  const RecordOptions& options_;
  bool keeps_logits_;
};

}  // namespace

std::vector<ShardSpec> point_shards() {
  std::vector<ShardSpec> out;
  for (const PointSpec& spec : point_table()) {
    std::string name(spec.name);
    const std::size_t layer = name.find(".N");
    const std::string first = layer == std::string::npos ? name : name.replace(layer, 2, ".0");
    const PointDeal deal = point_deal(first);
    // Every rank gathers the logits of all.
    if (deal.dealt == Dealt::kWhole || deal.dealt == Dealt::kVocab) continue;
    std::string pattern = first;
    if (layer != std::string::npos) pattern.replace(layer, 2, ".*");
    out.push_back({std::move(pattern), static_cast<std::int64_t>(deal.axis)});
  }
  return out;
}

Result<Recorded> record_ranks(Ranks& ranks, std::int64_t tp, const RunPlan& plan,
                              const std::filesystem::path& dir, TraceManifest manifest,
                              const RecordOptions& options) {
  manifest.world_size = manifest.tensor_parallel = tp;
  manifest.shards = point_shards();
  // Creating the writer takes an older trace's manifest away; the steps are written below, for a
  // TraceWriter has one file open at a time.
  PS_TRY_VOID(TraceWriter::create(dir, manifest));
  Script script(plan);
  std::vector<RankRecorder> recorders;
  for (std::int64_t r = 0; r < tp; ++r) recorders.emplace_back(options, r == 0);
  std::vector<Tap*> taps;
  for (RankRecorder& recorder : recorders) taps.push_back(&recorder);
  std::vector<TraceStep> written;
  Recorded counted;
  ranks.reset();
  const auto logits = [&] {
    const Tensor& t = recorders[0].logits;
    return t.shape().empty() ? std::nullopt : std::optional(t.view());
  };
  while (std::optional<ScriptStep> next = script.next(logits())) {
    if (options.progress) options.progress(next->step.step, script.total_steps());
    const bool forward = next->step.op == StepOp::kForward;
    for (std::int64_t r = 0; r < tp; ++r) {
      TraceStep step = next->step;
      step.rank = r;
      step.file = step_file_name(step.step, r);
      PS_TRY(recorders[static_cast<std::size_t>(r)].writer,
             SafetensorsWriter::create(dir / step.file));
      if (forward) {
        PS_TRY_VOID(
            write_step_inputs(*recorders[static_cast<std::size_t>(r)].writer, next->inputs));
        if (next->inputs.visible) {
          const Tensor given = input_mask(next->inputs, plan.visible_heads);
          PS_TRY_VOID(
              recorders[static_cast<std::size_t>(r)].writer->add("input_mask", given.view()));
        }
      }
      written.push_back(std::move(step));
    }
    PS_TRY_VOID(forward ? ranks.forward(next->inputs, taps)
                        : ranks.reorder_cache(next->step.beam_idx, taps));
    for (RankRecorder& recorder : recorders) {
      if (!recorder.status.ok()) return recorder.status.error();
      PS_TRY_VOID(recorder.writer->close());
      recorder.writer.reset();
    }
    ++counted.steps;
  }
  for (const RankRecorder& recorder : recorders) {
    counted.points += recorder.counted.points;
    counted.bytes += recorder.counted.bytes;
  }
  PS_TRY(const std::string text, manifest_text(manifest, written));
  PS_TRY_VOID(write_text(dir / "trace.json", text));
  return counted;
}

}  // namespace ps
