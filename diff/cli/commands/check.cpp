// parscope check MODEL_DIR: the main job.
#include <chrono>
#include <cstdio>

#include "core/sparse_attention.h"
#include "diff/cli/attention.h"
#include "diff/cli/check_pins.h"
#include "diff/cli/command.h"
#include "diff/cli/engines.h"
#include "diff/cli/ranks.h"
#include "diff/cli/viewer_pictures.h"
#include "diff/diagnose/explain.h"
#include "diff/diagnose/power.h"
#include "diff/isolate/check_progress.h"
#include "diff/isolate/excite.h"
#include "diff/isolate/invariants.h"
#include "diff/isolate/lockstep.h"
#include "diff/isolate/rank_tolerance.h"
#include "diff/ranks/world_engine.h"
#include "diff/report/baseline.h"
#include "diff/report/write.h"
#include "diff/run/phases.h"
#include "diff/run/recommend.h"
#include "diff/shard/join_trace.h"
#include "diff/shard/rank_engine.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    kPrompt,
    kTokens,
    kRandom,
    kSeed,
    kSteps,
    kChunk,
    kBeams,
    kMask,
    kEngineOption,
    kAttention,
    kDevice,
    kDType,
    kThreads,
    kTp,
    {"--cross-check", "WHAT", "what the reference computes in: f64 (default) or same"},
    {"--candidate", "DIR",
     "the candidate reads config and weights from DIR instead\n"
     "(a converted or repacked checkpoint of the same model)"},
    {"--invariants", "",
     "also check the candidate without a reference: causality, chunks,\n"
     "decode, batch order, padding, determinism, aggregation"},
    {"--natural", "",
     "only the given inputs: without the second run, on embeddings made to\n"
     "excite each op (scaled to epsilon, constant, one-hot, zero, large)"},
    {"--first", "", "stop at the first divergence"},
    {"--sample", "WHAT",
     "judge only some layers: layers=0,4-7 or every=8 (and the last), only\n"
     "some tokens of projections: rows=16, or both: every=8,rows=16; the\n"
     "report lists what was not judged, and its power falls accordingly\n"
     "(docs/scale.md)"},
    {"--resume", "",
     "go on where a check of the same things was killed; begin anew where\n"
     "there is nothing to go on from"},
    {"--progress", "FILE",
     "where what is judged is kept meanwhile; default: check.progress in the\n"
     "folder of --report"},
    {"--report", "DIR", "write report.json, .md, .html, junit.xml, sarif.json and pictures"},
    {"--github", "", "GitHub annotations and a step summary"},
    {"--baseline", "FILE", "accept the findings of an earlier report.json, fail on new ones"},
    kExplain,
    kProfile,
    kJson,
    kQuiet};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", x);
  return text;
}

void describe(const EngineChoice& choice, const RunPlan& plan, Report& report) {
  report.environment.emplace_back("version", json_string(PS_VERSION));
  report.environment.emplace_back("engine", json_string(engine_name(choice)));
  report.environment.emplace_back("dtype", json_string(torch_name(choice.options.dtype)));
  report.inputs.emplace_back("batch", std::to_string(plan.prompt.batch));
  report.inputs.emplace_back("tokens", std::to_string(plan.prompt.length));
  report.inputs.emplace_back("decode_steps", std::to_string(plan.decode_steps));
  report.inputs.emplace_back("chunk", std::to_string(plan.chunk));
  report.inputs.emplace_back("beams", std::to_string(plan.beams));
  if (plan.visible) report.inputs.emplace_back("mask", "\"given\"");
  report.inputs.emplace_back("padded", plan.prompt.attention_mask ? "true" : "false");
}

// The candidate as one engine: whole, on simulated ranks, or on real ones (this is rank 0).
struct Candidate {
  std::unique_ptr<Engine> own;  // of a real rank: its part
  std::unique_ptr<Engine> engine;
  Engine& get() const { return *engine; }
  const std::vector<Finding>* findings() const {
    if (const auto* ranks = dynamic_cast<const RankEngine*>(engine.get())) {
      return &ranks->findings();
    }
    if (const auto* world = dynamic_cast<const WorldEngine*>(engine.get())) {
      return &world->findings();
    }
    return nullptr;
  }
};

Result<Candidate> open_candidate_of(const Model& model, const EngineChoice& choice,
                                    const RankPlace* place, World* world) {
  Candidate out;
  if (world == nullptr) {
    PS_TRY(out.engine, open_engine(model, choice));
    return Result<Candidate>(std::move(out));
  }
  PS_TRY(out.own, open_rank(model, choice, *place, *world));
  PointJoiner joiner{model.config, rank_share(model.config, place->size), {}};
  out.engine = std::make_unique<WorldEngine>(*world, *out.own, std::move(joiner));
  return Result<Candidate>(std::move(out));
}

// `place` and `world`: of a real rank.
Result<int> check(const Arguments& arguments, const RankPlace* place, World* world) {
  const auto start = std::chrono::steady_clock::now();
  Phases& phases = Phases::of_thread();
  if (arguments.has("--profile")) phases.measure_memory(own_bytes);
  phases.enter(Work::kOpen);
  const bool leads = world == nullptr || place->rank == 0;
  ReportOptions files;
  files.github = arguments.has("--github");
  if (arguments.has("--resume") && !arguments.has("--report") && !arguments.has("--progress")) {
    return bad_input("--resume", "nothing says where the progress was kept",
                     "--report DIR or --progress FILE");
  }
  if (arguments.has("--report") && leads) {
    files.dir = arguments.get("--report");
    PS_TRY_VOID(prepare_report_dir(files.dir));
  }
  const std::string subject = arguments.positionals()[0];
  files.artifact = subject;
  PS_TRY(Model dense, open_model_at(subject));
  PS_TRY(const Model model, with_attention_asked_for(arguments, std::move(dense)));
  PS_TRY(Model repacked, arguments.has("--candidate") ? open_model_at(arguments.get("--candidate"))
                                                      : Result<Model>(model));
  PS_TRY(const Model candidate_model, with_attention_asked_for(arguments, std::move(repacked)));
  if (arguments.has("--invariants") && sparse_attention(model.config)) {
    return bad_input("--invariants",
                     "chunks and decode steps select other blocks than a whole pass",
                     "dense attention");
  }
  PS_TRY(const EngineChoice choice, engine_choice(arguments, model.config, kDefaultCandidate));
  if (choice.reference && choice.tp > 1) {
    return bad_input("--tp", "the candidate runs on ranks, and the reference is whole",
                     "--engine model");
  }
  const std::string cross = arguments.get("--cross-check", "f64");
  if (cross != "f64" && cross != "same") {
    return bad_input("--cross-check", "unknown choice", "f64 or same", cross);
  }
  PS_TRY(RunPlan plan, run_plan(arguments, model.config));
  const bool nothing_asked = !arguments.has("--prompt") && !arguments.has("--tokens") &&
                             !arguments.has("--random") && !arguments.has("--steps");
  if (nothing_asked) {
    RunPlan probe = recommended_inputs(model.config, 1).plan;
    if (arguments.has("--chunk")) probe.chunk = plan.chunk;
    if (arguments.has("--beams") || choice.tp > 1) probe.beams = plan.beams;
    const bool masked = arguments.has("--mask");
    if (masked) plan.decode_steps = 2;  // the mask was evaluated for the plan's own lengths
    if (!masked) plan = std::move(probe);
  }

  LockstepOptions options;
  if (arguments.has("--sample")) {
    PS_TRY(options.sample,
           Sample::parse(arguments.get("--sample"), model.config.layers, "--sample"));
  }
  std::optional<CheckProgress> kept;
  if (leads && (arguments.has("--progress") || !files.dir.empty())) {
    const auto file = arguments.has("--progress")
                          ? std::filesystem::path(arguments.get("--progress"))
                          : files.dir / "check.progress";
    PS_TRY(const Pins pins, check_pins(arguments, model, candidate_model, choice, plan));
    PS_TRY(CheckProgress opened, CheckProgress::open(file, pins, arguments.has("--resume")));
    kept.emplace(std::move(opened));
    options.progress_file = &*kept;
  }

  if (world != nullptr) {
    PS_TRY_VOID(agree_on_run(*world, candidate_model, choice, plan));
    if (!leads) {
      PS_TRY(const std::unique_ptr<Engine> own, open_rank(candidate_model, choice, *place, *world));
      PS_TRY_VOID(serve(*world, *own, candidate_model.config));
      return 0;
    }
  }

  ReferenceOptions truth;
  truth.dtype = cross == "f64" ? DType::kF64 : choice.options.dtype;
  truth.threads = choice.options.threads;
  truth.weights_through = choice.options.dtype;
  truth.candidate_ranks = choice.tp;
  PS_TRY(const Candidate candidate, open_candidate_of(candidate_model, choice, place, world));
  PS_TRY(const std::unique_ptr<Reference> reference, open_reference(model, truth));
  const double opened = seconds_since(start);
  phases.enter(Work::kOther);

  Progress progress("checking");
  options.run = choice.options.dtype;
  options.bound_factor = truth.dtype == choice.options.dtype ? 2.0 : 1.0;  // 2: both err
  options.count_votes = arguments.has("--json") || !files.dir.empty();
  options.stop_at_first = arguments.has("--first");
  options.progress = [&](std::int64_t step, std::int64_t steps, std::int64_t op, std::int64_t ops) {
    if (op % 16 == 0) progress.update(step * ops + op, steps * ops);
  };
  options.divergence = [&](std::int64_t step, const JudgedPoint& point) {
    if (files.dir.empty() || files.pictures.size() >= 3) return;
    files.pictures.push_back(
        {step, 0, point.op.point, point.candidate.shape,
         error_grid(point.candidate, point.expected.value.view(), point.expected.bound.view())});
  };
  PowerMeter power(reference->faults(/*only_applicable=*/true), model.config);
  options.power = &power;
  PS_TRY(Report report, lockstep(candidate.get(), *reference, model.config, plan, options));
  if (!arguments.has("--natural")) {
    // The ranks of an excited model are simulated, also where the run's own are real.
    const Openers open = {[&](const Model& own) { return open_engine(own, choice); },
                          [&](const Model& own) { return open_reference(own, truth); }};
    if (kept) kept->begin_run(1);
    PS_TRY_VOID(excite(model, candidate_model.config, open, options, report));
  }
  if (arguments.has("--invariants")) {
    PS_TRY(const auto invariants,
           check_invariants(candidate.get(), model.config, plan.prompt, {choice.options.dtype}));
    for (const InvariantResult& r : invariants) {
      report.environment.emplace_back("invariant " + r.name,
                                      json_string(!r.applies ? "not applicable: " + r.detail
                                                  : r.holds  ? "holds"
                                                             : "broken"));
    }
    for (Finding& f : invariant_findings(invariants)) report.findings.push_back(std::move(f));
  }
  if (const std::vector<Finding>* findings = candidate.findings()) {
    add_rank_findings(report, *findings);
    report.environment.emplace_back("tensor_parallel", std::to_string(choice.tp));
    state_rank_tolerance(choice.options.dtype, choice.tp, model.config.layers, report);
    report.environment.emplace_back("ranks", world == nullptr ? "\"simulated\"" : "\"processes\"");
  }
  if (auto* all = dynamic_cast<WorldEngine*>(candidate.engine.get())) PS_TRY_VOID(all->dismiss());
  describe(choice, plan, report);
  report.timing = {{"open_seconds", number(opened)},
                   {"check_seconds", number(seconds_since(start) - opened)}};
  if (kept && kept->known() > 0) {
    report.timing.emplace_back("points_judged_before", std::to_string(kept->known()));
  }
  const auto fields = phase_fields(phases.rows());
  report.timing.insert(report.timing.end(), fields.begin(), fields.end());
  phases.enter(Work::kReport);
  if (arguments.has("--baseline")) {
    PS_TRY(report, apply_baseline(std::move(report), arguments.get("--baseline")));
  }
  if (arguments.has("--json")) files.annotations = stderr;
  files.more = viewer_pictures;
  PS_TRY_VOID(write_reports(report, subject, files));
  if (kept) kept->done();
  if (arguments.has("--explain")) {
    PS_TRY(const std::string words, explain_finding(report, arguments.get("--explain")));
    print(words);
  } else if (arguments.has("--json")) {
    print(report_json(report));
  } else if (!arguments.has("--quiet") || exit_code(report) != 0) {
    print(report_text(report, subject, {stdout_has_color()}));
  }
  if (arguments.has("--profile")) std::fputs(phase_table(phases.rows()).c_str(), stderr);
  return exit_code(report);
}

Result<int> run(const Arguments& arguments) {
  if (arguments.positionals().size() != 1) {
    return bad_input("parscope check", "wrong arguments", "one MODEL_DIR",
                     std::to_string(arguments.positionals().size()));
  }
  if (arguments.has("--mask") && arguments.has("--invariants")) {
    return bad_input("--invariants", "holds for causal attention only", "no --mask");
  }
  if (arguments.has("--explain") && arguments.has("--json")) {
    return wrong_usage(check_command(),
                       "--explain prints words, --json the whole report: one of them");
  }
  PS_TRY(const std::optional<RankPlace> place, place_of_run(arguments));
  if (!place) return check(arguments, nullptr, nullptr);
  return as_rank(*place, [&](World& world) { return check(arguments, &*place, &world); });
}

}  // namespace

const Command& check_command() {
  static const Command command{
      "check",
      "runs a model next to the reference and finds the first op that is wrong",
      "check MODEL_DIR [inputs] [engine] [report]",
      "Runs the candidate (CUDA, or the same kernels on the host) and the LibTorch reference in\n"
      "lockstep. Each op is redone by the reference in float64 from the candidate's own inputs, so "
      "a\n"
      "wrong op is told from one that only inherited wrong inputs. Bounds are derived from the\n"
      "candidate's type; the report states them. A wrong op's cause is named when replaying the "
      "fault\n"
      "explains it. Without inputs: what parscope probe recommends.\n\n"
      "  parscope check fixtures/models/parscale-bytes\n"
      "  parscope check MODEL --dtype bf16 --random 4x33 --steps 3 --chunk 16 --report out/\n"
      "  parscope check MODEL --report out/ --resume   (goes on where it was killed)\n"
      "  parscope check MODEL --sample every=8         (a part of the layers)\n"
      "  parscope check MODEL --random 1x2048 --sample rows=16   (a long prompt, soon)\n"
      "  parscope launch -n 2 check MODEL --tp 2     (real ranks; without launch: simulated)",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
