#include "diff/run/record_ranks.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <tuple>

#include "core/file.h"
#include "core/points.h"
#include "core/temp_file.h"
#include "core/trace_manifest.h"
#include "diff/shard/join.h"

namespace ps {

namespace {

constexpr std::string_view kUnfinished = ".part";

std::filesystem::path unfinished(const std::filesystem::path& dir, const std::string& file) {
  return dir / (file + std::string(kUnfinished));
}

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

RankScribe::RankScribe(const std::filesystem::path& dir, std::int64_t rank,
                       const RecordOptions& options, bool keeps_logits)
    : dir_(dir), rank_(rank), options_(options), keeps_logits_(keeps_logits) {}

Result<void> RankScribe::begin(TraceStep step, const StepInputs* inputs,
                               std::int64_t visible_heads) {
  step.rank = rank_;
  step.file = step_file_name(step.step, rank_, options_.packing);
  PS_TRY(writer_, SafetensorsWriter::create(unfinished(dir_, step.file), options_.packing));
  steps_.push_back(std::move(step));
  if (inputs == nullptr) return {};
  PS_TRY_VOID(write_step_inputs(*writer_, *inputs));
  if (!inputs->visible) return {};
  const Tensor given = input_mask(*inputs, visible_heads);
  return writer_->add("input_mask", given.view());
}

Result<void> RankScribe::end(Ledger collectives) {
  if (!status_.ok()) return status_.error();
  const TraceStep& step = steps_.back();
  ledgers_.push_back({step.step, step.rank, std::move(collectives)});
  ++counted_.steps;
  const Result<void> closed = writer_->close();
  writer_.reset();
  return closed;
}

bool RankScribe::wants(std::string_view point) {
  return (keeps_logits_ && point == "lm_head") || is_recorded(options_, point);
}

void RankScribe::take(std::string_view point, const TensorView& value) {
  if (keeps_logits_ && point == "lm_head") logits_ = Tensor::copy_of(value);
  if (!is_recorded(options_, point) || !status_.ok()) return;
  ++counted_.points;
  counted_.bytes += static_cast<std::int64_t>(value.bytes.size());
  status_ = writer_->add(point, value);
}

std::optional<TensorView> RankScribe::logits() const {
  return logits_.shape().empty() ? std::nullopt : std::optional(logits_.view());
}

Result<void> publish_ranks(const std::filesystem::path& dir, TraceManifest manifest,
                           RankParts parts, std::int64_t tp) {
  manifest.world_size = manifest.tensor_parallel = tp;
  manifest.shards = point_shards();
  if (parts.masks_by_head) {
    for (const char* mask : {"model:mask", "model:mask_sliding"}) {
      manifest.shards.push_back({mask, 1});
    }
  }
  const auto before = [](const auto& a, const auto& b) {
    return std::tie(a.step, a.rank) < std::tie(b.step, b.rank);
  };
  std::vector<TraceStep>& steps = parts.steps;
  std::sort(steps.begin(), steps.end(), before);
  std::sort(parts.ledgers.begin(), parts.ledgers.end(), before);
  for (const TraceStep& step : steps) {
    std::error_code error;
    if (std::filesystem::is_regular_file(unfinished(dir, step.file), error)) continue;
    return machine_error(unfinished(dir, step.file).string(),
                         "what rank " + std::to_string(step.rank) + " wrote is not here",
                         "a folder that all ranks see");
  }
  PS_TRY(const std::string text, manifest_text(manifest, steps));
  PS_TRY_VOID(write_text(dir / "trace.json", with_ledgers(text, parts.ledgers)));
  for (const TraceStep& step : steps) {
    const std::filesystem::path to = dir / step.file;
    if (std::rename(unfinished(dir, step.file).c_str(), to.c_str()) != 0) {
      return machine_error(to.string(), "cannot be named so", "", errno_text(errno));
    }
    remove_other_form(dir, step);
  }
  return {};
}

Result<Recorded> record_ranks(Ranks& ranks, std::int64_t tp, const RunPlan& plan,
                              const std::filesystem::path& dir, TraceManifest manifest,
                              const RecordOptions& options) {
  PS_TRY_VOID(
      TraceWriter::create(dir, manifest, options.packing));  // an older trace's manifest goes
  Script script(plan);
  std::vector<RankScribe> scribes;
  for (std::int64_t r = 0; r < tp; ++r) scribes.emplace_back(dir, r, options, r == 0);
  std::vector<Tap*> taps;
  for (RankScribe& scribe : scribes) taps.push_back(&scribe);
  ranks.reset();
  while (std::optional<ScriptStep> next = script.next(scribes[0].logits())) {
    if (options.progress) options.progress(next->step.step, script.total_steps());
    const bool forward = next->step.op == StepOp::kForward;
    for (RankScribe& scribe : scribes) {
      PS_TRY_VOID(scribe.begin(next->step, forward ? &next->inputs : nullptr, plan.visible_heads));
    }
    PS_TRY_VOID(forward ? ranks.forward(next->inputs, taps)
                        : ranks.reorder_cache(next->step.beam_idx, taps));
    for (std::size_t r = 0; r < scribes.size(); ++r) {
      PS_TRY_VOID(scribes[r].end(forward ? ranks.ledger(static_cast<std::int64_t>(r)) : Ledger{}));
    }
  }
  Recorded counted;
  RankParts parts;
  parts.masks_by_head = plan.visible_heads > 1;
  for (const RankScribe& scribe : scribes) {
    counted.steps = scribe.counted().steps;
    counted.points += scribe.counted().points;
    counted.bytes += scribe.counted().bytes;
    parts.steps.insert(parts.steps.end(), scribe.steps().begin(), scribe.steps().end());
    parts.ledgers.insert(parts.ledgers.end(), scribe.ledgers().begin(), scribe.ledgers().end());
  }
  PS_TRY_VOID(publish_ranks(dir, std::move(manifest), std::move(parts), tp));
  return counted;
}

}  // namespace ps
