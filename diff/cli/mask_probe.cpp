#include "diff/cli/mask_probe.h"

#include "core/json.h"
#include "diff/cli/engines.h"
#include "diff/mask/probe.h"
#include "diff/mask/source.h"
#include "diff/mask/text.h"

namespace ps::cli {

namespace {

using mask::Dims;
using mask::Expected;
using mask::Mask;
using mask::ProbedMask;
using mask::Program;

// The user's program for all rows and heads that were probed.
Result<Expected> user_expected(const std::string& word, const ProbedMask& at, std::int64_t batch) {
  const Dims& d = at.mask.dims();
  PS_TRY(mask::Source source, mask::open_source(word, Dims{batch, 1, d.Q, d.KV}));
  if (!source.program) return bad_input(word, "no mask program", "a program or an expression");
  Program& p = *source.program;
  const bool one_replica = p.dims.B == batch && d.B % batch == 0;
  if (!one_replica || (p.dims.H != 1 && p.dims.H != d.H) || p.dims.Q != d.Q || p.dims.KV != d.KV) {
    return bad_input(word, "has other sizes [B,H,Q,KV] than the attention that was probed",
                     mask::to_string({batch, d.H, d.Q, d.KV}) + ", H may be 1",
                     mask::to_string(p.dims));
  }
  p.dims.H = d.H;
  if (d.B == batch) return Expected::of(std::move(p));
  // Replicas are further rows with the same mask.
  for (mask::Array& a : p.arrays) {
    const bool by_batch = !a.shape.empty() && a.shape[0] == batch && batch > 1;
    if (!by_batch) continue;
    const std::vector<std::int64_t> once = a.data;
    for (std::int64_t r = 1; r < d.B / batch; ++r)
      a.data.insert(a.data.end(), once.begin(), once.end());
    a.shape[0] = d.B;
  }
  const std::vector<std::int64_t> once = p.q_offset;
  while (once.size() > 1 && static_cast<std::int64_t>(p.q_offset.size()) < d.B) {
    p.q_offset.insert(p.q_offset.end(), once.begin(), once.end());
  }
  p.dims.B = d.B;
  PS_TRY_VOID(mask::validate(p, word));
  return Expected::of(std::move(p));
}

}  // namespace

Result<void> probe_model(const Arguments& arguments, const std::string& model_dir,
                         const std::optional<std::string>& expected, Report& report) {
  PS_TRY(const Model model, open_model_at(model_dir));
  PS_TRY(const EngineChoice choice, engine_choice(arguments, model.config, kDefaultCandidate));
  PS_TRY(const RunPlan plan, run_plan(arguments, model.config));
  if (plan.beams > 1)
    return bad_input("--beams", "a probe reads masks; beams have none of their own");
  if (expected && (plan.chunk > 0 || plan.decode_steps > 0)) {
    return bad_input("EXPECTED", "one program cannot describe several steps",
                     "no --steps and no --chunk");
  }
  PS_TRY(const std::vector<ProbedMask> probed,
         mask::probe_masks(model, {plan.prompt, plan.chunk, plan.decode_steps},
                           [&](const Model& probe) { return open_engine(probe, choice); }));
  std::string layers;
  for (const ProbedMask& at : probed) {
    PS_TRY(const Expected e,
           expected ? user_expected(*expected, at, plan.prompt.batch)
                    : Expected::of(mask::expected_program(model.config, plan.prompt, at)));
    PS_TRY(std::vector<Finding> findings, mask::check(e, at.mask));
    for (Finding& f : findings) {
      f.step = at.step;
      f.point = "model.layers." + std::to_string(at.layer) + ".self_attn";
      report.findings.push_back(std::move(f));
    }
    layers += (layers.empty() ? "" : ",") + std::string("{\"step\":") + std::to_string(at.step) +
              ",\"layer\":" + std::to_string(at.layer) +
              ",\"shape\":" + mask::to_string(at.mask.dims()) +
              ",\"allowed\":" + std::to_string(at.mask.count()) +
              ",\"expected\":" + std::to_string(e.mask().count()) +
              ",\"equal\":" + (mask::equal(e.mask(), at.mask) ? "true" : "false") + "}";
  }
  report.inputs.emplace_back("probed", "[" + layers + "]");
  report.environment.emplace_back("engine", json_string(engine_name(choice)));
  for (std::size_t i = 0; i < model.config.cross_kv_layer.size(); ++i) {
    if (!model.config.cross_kv_layer[i]) continue;
    report.blind_spots.push_back({"mask-cross-kv", "layer " + std::to_string(i) +
                                                       " attends to all replicas' keys, which look "
                                                       "alike to the probe"});
  }
  return {};
}

}  // namespace ps::cli
