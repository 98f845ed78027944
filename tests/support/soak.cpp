#include "tests/support/soak.h"

#include "diff/isolate/excite.h"
#include "diff/isolate/lockstep.h"
#include "diff/run/inputs.h"
#include "model/candidate.h"
#include "tests/support/random_model.h"
#include "tests/support/run.h"

namespace ps {

SoakResult soak_one(std::uint64_t seed, std::uint64_t index, const std::filesystem::path& dir) {
  Draw draw(seed, index);
  const std::string config = random_config(draw);
  SoakResult out;
  out.dtype = draw.one_of({DType::kF32, DType::kF32, DType::kBF16, DType::kF16});
  const Model model = random_model(dir, config, seed * 1000003 + index);

  RunPlan plan;
  const std::int64_t batch = draw.from(1, 3), length = draw.from(1, 11);
  plan.prompt = random_inputs(batch, length, seed + index, model.config);
  plan.decode_steps = draw.from(0, 3);
  plan.chunk = draw.chance(40) ? draw.from(1, length) : 0;
  // xattn without a prefix cannot reorder its caches upstream; parscope can, so it is drawn too.
  plan.beams = draw.chance(20) ? draw.from(2, 3) : 1;
  out.what = "type " + std::string(short_name(out.dtype)) + " batch " + std::to_string(batch) +
             " length " + std::to_string(length) + " steps " + std::to_string(plan.decode_steps) +
             " chunk " + std::to_string(plan.chunk) + " beams " + std::to_string(plan.beams) + " " +
             config;

  CandidateOptions options;
  options.dtype = out.dtype;
  options.device = Device::kHost;
  options.threads = 1;  // tensors of this size are not worth a second one
  const auto candidate = value_or_die(open_candidate(model, options));
  ReferenceOptions truth;
  truth.dtype = DType::kF64;
  truth.weights_through = out.dtype;
  truth.threads = 1;
  const auto reference = value_or_die(open_reference(model, truth));
  LockstepOptions how;
  how.run = out.dtype;
  how.measure_power = false;  // what a run can show does not change what it is called
  Result<Report> report = lockstep(*candidate, *reference, model.config, plan, how);
  if (!report.ok()) {
    out.trouble = report.error().line();
    return out;
  }
  // What `check --own-inputs` adds: a model that passes on natural inputs passes on those too.
  const Openers open{[&](const Model& m) { return open_candidate(m, options); },
                     [&](const Model& m) { return open_reference(m, truth); }};
  if (const Result<void> own = excite(model, model.config, open, how, *report); !own.ok()) {
    out.trouble = own.error().line();
    return out;
  }
  for (const PointRow& row : report->points) {
    if (row.ratio <= out.worst_ratio) continue;
    out.worst_ratio = row.ratio;
    out.worst_point = row.point;
  }
  out.equivalent = report->verdict == Verdict::kEquivalent;
  if (report->first_divergence) {
    out.trouble = "step " + std::to_string(report->first_divergence->step) + " " +
                  report->first_divergence->point + " " + report->first_divergence->where +
                  ", worst ratio " + std::to_string(out.worst_ratio) + " at " + out.worst_point;
  }
  return out;
}

}  // namespace ps
