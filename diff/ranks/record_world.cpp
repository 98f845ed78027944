#include "diff/ranks/record_world.h"

#include "core/trace_manifest.h"
#include "diff/run/record_ranks.h"

namespace ps {

namespace {

std::uint64_t mixed(std::uint64_t hash, const std::vector<std::int64_t>& values) {
  constexpr std::uint64_t kPrime = 0x100000001b3ULL;  // FNV-1a
  for (const std::int64_t value : values) {
    hash = (hash ^ static_cast<std::uint64_t>(value)) * kPrime;
  }
  return hash;
}

// Every rank chooses the next tokens from its own logits: what it chose is compared.
Collective step_entry(const ScriptStep& step) {
  constexpr std::uint64_t kStart = 0xcbf29ce484222325ULL;
  std::uint64_t hash = mixed(kStart, step.inputs.input_ids);
  if (step.inputs.attention_mask) hash = mixed(hash, *step.inputs.attention_mask);
  if (step.inputs.position_ids) hash = mixed(hash, *step.inputs.position_ids);
  hash = mixed(hash, step.step.beam_idx);
  return {"step",
          {step.inputs.batch, step.inputs.length},
          DType::kI64,
          "step " + std::to_string(step.step.step) + " inputs " + std::to_string(hash)};
}

// A rank's steps with their ledgers, and what it counted, as text and back.
std::string told(const RankScribe& scribe, const std::string& manifest) {
  return std::to_string(scribe.counted().steps) + " " + std::to_string(scribe.counted().points) +
         " " + std::to_string(scribe.counted().bytes) + "\n" + manifest;
}

Result<void> hear(const std::string& text, std::int64_t rank, Recorded& counted, RankParts& parts) {
  long long points = 0, bytes = 0, steps = 0;
  const std::size_t line = text.find('\n');
  if (line == std::string::npos ||
      std::sscanf(text.c_str(), "%lld %lld %lld", &steps, &points, &bytes) != 3) {
    return machine_error("rank " + std::to_string(rank), "does not say what it wrote");
  }
  const std::string where = "rank " + std::to_string(rank) + "'s part";
  const std::string json = text.substr(line + 1);
  PS_TRY(ManifestText manifest, parse_manifest_text(json, where, StepsField::kRequired));
  PS_TRY(std::vector<StepLedger> ledgers, parse_ledgers(json, where));
  counted.steps = steps;
  counted.points += points;
  counted.bytes += bytes;
  parts.steps.insert(parts.steps.end(), manifest.steps.begin(), manifest.steps.end());
  parts.ledgers.insert(parts.ledgers.end(), ledgers.begin(), ledgers.end());
  return {};
}

}  // namespace

Result<Recorded> record_world(World& world, Engine& own, const ModelConfig& whole_model,
                              const RunPlan& plan, const std::filesystem::path& dir,
                              const TraceManifest& manifest, const RecordOptions& options) {
  TraceManifest whole = manifest;
  whole.world_size = whole.tensor_parallel = world.size();
  if (world.rank() == 0) PS_TRY_VOID(TraceWriter::create(dir, whole, options.packing));
  PS_TRY_VOID(world.all_texts("the folder is there"));
  Script script(plan);
  RankScribe scribe(dir, world.rank(), options, /*keeps_logits=*/true);
  own.reset();
  while (std::optional<ScriptStep> next = script.next(scribe.logits())) {
    if (options.progress) options.progress(next->step.step, script.total_steps());
    const bool forward = next->step.op == StepOp::kForward;
    PS_TRY_VOID(world.announce(step_entry(*next)));
    static_cast<void>(world.take_ledger());  // the step itself is no collective of the model
    PS_TRY_VOID(scribe.begin(next->step, forward ? &next->inputs : nullptr, plan.visible_heads));
    const StepInputs given =
        inputs_of_rank(next->inputs, whole_model, own.past(), world.size(), world.rank());
    PS_TRY_VOID(forward ? own.forward(given, scribe)
                        : own.reorder_cache(next->step.beam_idx, scribe));
    PS_TRY_VOID(scribe.end(world.take_ledger()));
  }
  PS_TRY(const std::string steps_text, manifest_text(whole, scribe.steps()));
  PS_TRY(const std::vector<std::string> parts,
         world.all_texts(told(scribe, with_ledgers(steps_text, scribe.ledgers()))));
  Recorded counted;
  if (world.rank() == 0) {
    RankParts all;
    all.masks_by_head = plan.visible_heads > 1;
    for (std::size_t r = 0; r < parts.size(); ++r) {
      PS_TRY_VOID(hear(parts[r], static_cast<std::int64_t>(r), counted, all));
    }
    PS_TRY_VOID(publish_ranks(dir, whole, std::move(all), world.size()));
  }
  // Nobody says that all went well before the trace is there.
  PS_TRY_VOID(world.all_texts("the trace is there"));
  return counted;
}

}  // namespace ps
