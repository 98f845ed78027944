#include "diff/cli/mask_probe.h"

#include <filesystem>

#include "core/file.h"
#include "core/json.h"
#include "core/sparse_attention.h"
#include "diff/cli/attention.h"
#include "diff/cli/engines.h"
#include "diff/mask/probe.h"
#include "diff/mask/source.h"
#include "diff/mask/text.h"
#include "diff/sparse/mask_probe.h"

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
  if (at.cross_kv) batch = d.B;
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

void add_probed(std::int64_t step, std::int64_t layer, const Mask& applied, const Mask& expected,
                std::string& list) {
  list += (list.empty() ? "" : ",") + std::string("{\"step\":") + std::to_string(step) +
          ",\"layer\":" + std::to_string(layer) + ",\"shape\":" + mask::to_string(applied.dims()) +
          ",\"allowed\":" + std::to_string(applied.count()) +
          ",\"expected\":" + std::to_string(expected.count()) +
          ",\"equal\":" + (mask::equal(expected, applied) ? "true" : "false") + "}";
}

}  // namespace

bool is_sparse_case(const std::string& dir) {
  const auto file = std::filesystem::path(dir) / "case.json";
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return false;
  const Result<std::string> text = read_text(file);
  if (!text.ok()) return false;
  const Result<Json> json = parse_json(*text, file.string(), {128, 1 << 24});
  return json.ok() && json->find("config") != nullptr && json->find("program") == nullptr;
}

Result<void> probe_sparse(const Arguments& arguments, const std::string& dir, Report& report) {
  PS_TRY(const SparseCase subject, open_sparse_case({dir}));
  ModelConfig any;
  PS_TRY(const EngineChoice choice, engine_choice(arguments, any, kDefaultCandidate));
  std::unique_ptr<SparseEngine> engine;
  if (choice.reference) {
    PS_TRY(engine, open_sparse_reference(subject.config, subject.weights));
  } else {
    CandidateOptions candidate;
    candidate.device = choice.device;
    candidate.threads = choice.options.threads;
    PS_TRY(engine, open_sparse_candidate(subject.config, subject.weights, candidate));
  }
  PS_TRY(const std::vector<SparseProbedMask> probed, probe_sparse_masks(subject, *engine));
  std::string layers;
  for (const SparseProbedMask& at : probed) {
    PS_TRY(const Expected e, Expected::of(at.expected));
    PS_TRY(std::vector<Finding> findings, mask::check(e, at.applied));
    for (Finding& f : findings) {
      f.step = at.step;
      f.point = layer_name(at.layer, "out");
      report.findings.push_back(std::move(f));
    }
    add_probed(at.step, at.layer, at.applied, e.mask(), layers);
  }
  report.inputs.emplace_back("probed", "[" + layers + "]");
  report.environment.emplace_back("engine", json_string(engine_name(choice)));
  return {};
}

Result<void> probe_model(const Arguments& arguments, const std::string& model_dir,
                         const std::optional<std::string>& expected, Report& report) {
  PS_TRY(Model dense, open_model_at(model_dir));
  PS_TRY(const Model model, with_attention_asked_for(arguments, std::move(dense)));
  PS_TRY_VOID(read_sparse_attention(model.config));
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
    add_probed(at.step, at.layer, at.mask, e.mask(), layers);
  }
  report.inputs.emplace_back("probed", "[" + layers + "]");
  report.environment.emplace_back("engine", json_string(engine_name(choice)));
  for (const ProbedMask& at : probed) {
    if (!at.replicas_alike || at.step != 0) continue;
    report.blind_spots.push_back(
        {"mask-cross-kv", "layer " + std::to_string(at.layer) +
                              " attends to all replicas' keys, and no layer before it has a prefix "
                              "that would make them differ: seen is only whether a key of any "
                              "replica is attended"});
  }
  return {};
}

}  // namespace ps::cli
