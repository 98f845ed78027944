// parscope diagnose CANDIDATE --model MODEL_DIR
#include <cstdio>

#include "diff/cli/attention.h"
#include "diff/cli/command.h"
#include "diff/cli/engines.h"
#include "diff/cli/foreign.h"
#include "diff/cli/output_probe.h"
#include "diff/cli/viewer_pictures.h"
#include "diff/diagnose/detectors.h"
#include "diff/diagnose/explain.h"
#include "diff/diagnose/gradients.h"
#include "diff/diagnose/repro.h"
#include "diff/isolate/examine.h"
#include "diff/isolate/rank_tolerance.h"
#include "diff/report/baseline.h"
#include "diff/report/stored.h"
#include "diff/report/write.h"
#include "diff/run/phases.h"
#include "diff/shard/join_trace.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"--model", "DIR", "config and weights of the model that the trace is of"},
    kAttention,
    {"--loss", "NAME",
     "what grad/... of the trace are gradients of: next-token (mean cross\n"
     "entropy of real next tokens), next-token-all (padding counts too),\n"
     "next-token-sum, or sum (of all logits); default: from grad/lm_head, else\n"
     "what fits best"},
    {"--frozen", "PATTERN",
     "parameters that have no gradient on purpose ('*' is a wildcard); may be\n"
     "repeated"},
    kNames,
    kThreads,
    {"--repro", "DIR",
     "write the first divergence alone: repro.safetensors (inputs, weights,\n"
     "the candidate's output, the right one) and repro.py, a short torch\n"
     "script"},
    {"--report", "DIR", "write report.json, .md, .html, junit.xml, sarif.json and pictures"},
    {"--github", "", "GitHub annotations and a step summary"},
    {"--baseline", "FILE", "accept the findings of an earlier report.json, fail on new ones"},
    kExplain,
    kProfile,
    {"--from", "FILE", "with --explain: a report.json of an earlier run, instead of CANDIDATE"},
    kJson,
    kQuiet};

// A report that was written before, explained without running anything.
Result<int> explain_stored(const Arguments& arguments) {
  if (!arguments.has("--explain") || !arguments.positionals().empty() || arguments.has("--repro")) {
    return wrong_usage(diagnose_command(),
                       "--from REPORT goes with --explain, and with no CANDIDATE or --repro");
  }
  PS_TRY(const Report report, read_stored_findings(arguments.get("--from")));
  PS_TRY(const std::string words, explain_finding(report, arguments.get("--explain")));
  print(words);
  return exit_code(report);
}

Result<GradientOptions> gradient_options(const Arguments& arguments) {
  GradientOptions out;
  out.frozen = arguments.all("--frozen");
  if (!arguments.has("--loss")) return out;
  out.loss = gradient_loss(arguments.get("--loss"));
  if (out.loss) return out;
  return bad_input("--loss", "unknown loss", "next-token, next-token-all, next-token-sum or sum",
                   arguments.get("--loss"));
}

Result<int> run(const Arguments& arguments) {
  if (arguments.has("--explain") && arguments.has("--json")) {
    return wrong_usage(diagnose_command(),
                       "--explain prints words, --json the whole report: one of them");
  }
  if (arguments.has("--from")) return explain_stored(arguments);
  if (arguments.positionals().size() != 1 || !arguments.has("--model")) {
    return wrong_usage(diagnose_command(),
                       arguments.has("--model") ? "not one CANDIDATE" : "no --model DIR");
  }
  ReportOptions files;
  files.github = arguments.has("--github");
  if (arguments.has("--report")) {
    files.dir = arguments.get("--report");
    PS_TRY_VOID(prepare_report_dir(files.dir));
  }
  if (arguments.has("--repro")) {
    PS_TRY_VOID(check_repro_dir(arguments.get("--repro")));
    PS_TRY_VOID(probe_output_dir(arguments.get("--repro")));
  }
  Phases& phases = Phases::of_thread();
  if (arguments.has("--profile")) phases.measure_memory(own_bytes);
  phases.enter(Work::kOpen);
  const std::string subject = arguments.positionals()[0];
  files.artifact = subject;
  PS_TRY(Model dense, open_model_at(arguments.get("--model")));
  PS_TRY(const Model model, with_attention_asked_for(arguments, std::move(dense)));
  PS_TRY(const GradientOptions gradients, gradient_options(arguments));
  ConvertOptions how;
  how.names = arguments.get("--names");
  how.config = model.config;
  PS_TRY(ForeignTrace foreign, ForeignTrace::open(subject, how));
  tell_conversion(foreign, subject);
  Trace ranks = foreign.take();
  const Trace whole = ranks;
  PS_TRY(const JoinedTrace joined, JoinedTrace::of(std::move(ranks), &model.config));
  const Trace& trace = joined.trace();
  PS_TRY(const std::int64_t threads, arguments.integer("--threads", 0, 0, 4096));
  ReferenceOptions truth;
  truth.dtype = DType::kF64;
  truth.threads = static_cast<int>(threads);
  truth.weights_through = trace.run_dtype();
  truth.candidate_ranks = joined.ranks();
  PS_TRY(const std::unique_ptr<Reference> reference, open_reference(model, truth));

  phases.enter(Work::kOther);
  Progress progress("examining");
  ExamineOptions options;
  options.progress = [&](std::int64_t done, std::int64_t total) { progress.update(done, total); };
  Reproduction repro(model);
  options.divergence = [&](std::int64_t step, const JudgedPoint& point) {
    if (arguments.has("--repro")) repro.look(step, point);
    if (files.dir.empty() || files.pictures.size() >= 3) return;
    files.pictures.push_back(
        {step, 0, point.op.point, point.candidate.shape,
         error_grid(point.candidate, point.expected.value.view(), point.expected.bound.view())});
  };
  PS_TRY(Report report, examine(trace, model, *reference, options));
  if (has_gradients(trace)) {
    PS_TRY(const std::unique_ptr<GradientReference> backward,
           open_gradient_reference(model, truth, trace.run_dtype()));
    PS_TRY_VOID(judge_gradients(trace, model.config, *backward, gradients, report));
  }
  add_rank_findings(report, joined.findings());
  state_rank_tolerance(trace.run_dtype(), joined.ranks(), model.config.layers, report);
  add_detectors(whole, model, static_cast<int>(threads), report);
  note_conversion(foreign, "conversion", report);
  report.environment.emplace_back("version", json_string(PS_VERSION));
  report.inputs.emplace_back("trace", json_string(subject));
  report.inputs.emplace_back("model", json_string(arguments.get("--model")));
  if (arguments.has("--baseline")) {
    PS_TRY(report, apply_baseline(std::move(report), arguments.get("--baseline")));
  }
  report.timing = phase_fields(phases.rows());
  phases.enter(Work::kReport);
  if (arguments.has("--json")) files.annotations = stderr;
  files.more = viewer_pictures;
  PS_TRY_VOID(write_reports(report, subject, files));
  if (arguments.has("--explain")) {
    PS_TRY(const std::string words, explain_finding(report, arguments.get("--explain")));
    print(words);
  } else if (arguments.has("--json")) {
    print(report_json(report));
  } else if (!arguments.has("--quiet") || exit_code(report) != 0) {
    print(report_text(report, subject, {stdout_has_color()}));
  }
  if (arguments.has("--repro")) {
    PS_TRY(const bool written, repro.write(arguments.get("--repro"), report));
    const std::string script = arguments.get("--repro") + "/repro.py";
    const char* why =
        report.first_divergence ? "the first divergence is no op's value" : "nothing diverged";
    std::fprintf(stderr, "%s%s\n", written ? "reproduction: python3 " : "no reproduction: ",
                 written ? script.c_str() : why);
  }
  if (arguments.has("--profile")) std::fputs(phase_table(phases.rows()).c_str(), stderr);
  return exit_code(report);
}

}  // namespace

const Command& diagnose_command() {
  static const Command command{
      "diagnose",
      "finds the first wrong op in a trace of any program",
      "diagnose CANDIDATE --model MODEL_DIR [report]",
      "CANDIDATE is a trace (a folder with trace.json, or one .safetensors file) with any of the\n"
      "points that parscope knows. The reference redoes each op from the trace's own values, or "
      "the\n"
      "chain of ops from the nearest values that were captured. No engine runs. A .npz, .pt or\n"
      "dump of vLLM, SGLang, nano-vllm, llama.cpp is read too (parscope convert --help).\n"
      "Gradients (grad/NAME) are judged as well: what is missing, cut off, frozen or scaled\n"
      "(docs/gradients.md).\n\n"
      "  parscope diagnose out/ --model MODEL --report report/\n"
      "  parscope diagnose out/ --model MODEL --explain 1\n"
      "  parscope diagnose out/ --model MODEL --repro bug/ && python3 bug/repro.py\n"
      "  parscope diagnose --from report/report.json --explain rope-theta-default",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
