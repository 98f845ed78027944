// parscope shard plan|check MODEL_DIR --tp N [SHARDS]
#include <filesystem>

#include "core/file.h"
#include "diff/cli/command.h"
#include "diff/cli/engines.h"
#include "diff/shard/check_fsdp.h"
#include "diff/shard/check_shards.h"
#include "diff/shard/dtensor_log.h"
#include "diff/shard/families.h"
#include "diff/shard/loader_ledger.h"
#include "diff/shard/plan_text.h"
#include "diff/shard/shard_model.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"--tp", "N", "ranks of tensor parallelism"},
    {"--fsdp", "N", "check shards of FSDP2 over N ranks instead: rows of dim 0"},
    {"--replicate-vocab", "", "an engine that keeps embedding and head whole on every rank"},
    {"--vocab-multiple", "M", "the vocabulary is padded to a multiple of M * N; default 1"},
    {"--layout", "NAME",
     "how q, k, v stand in the checkpoint: separate, concat,\n"
     "megatron_grouped or per_head_interleaved"},
    {"--unfused", "", "plan q_proj, k_proj, v_proj, gate_proj, up_proj each by itself"},
    {"--ranks", "", "the table of every rank, not of rank 0 alone"},
    kJson,
    kQuiet};

Result<PlanOptions> plan_options(const Arguments& arguments, const ShardModel& model) {
  PlanOptions options = model.options();
  options.replicate_vocab = arguments.has("--replicate-vocab");
  options.fused = !arguments.has("--unfused");
  PS_TRY(options.vocab_multiple, arguments.integer("--vocab-multiple", 1, 1, 1 << 20));
  if (arguments.has("--layout")) {
    const std::string name = arguments.get("--layout");
    const auto layout = layout_from(name);
    if (!layout) {
      return bad_input("--layout", "unknown layout",
                       "separate, concat, megatron_grouped or per_head_interleaved",
                       "'" + name + "'");
    }
    options.layout = *layout;
  }
  return options;
}

// What of the checkpoint is read, where there is one.
std::string ledger_text(const Plan& plan, const ShardModel& model) {
  if (model.checkpoint == nullptr) return "";
  const LoaderLedger ledger = loader_ledger(plan, model);
  std::string out = "\n" + std::to_string(ledger.read) + " of " +
                    std::to_string(model.checkpoint->names().size()) +
                    " tensors of the checkpoint are read\n";
  for (const std::string& name : ledger.missing) out += "missing: " + name + "\n";
  for (const std::string& name : ledger.unread) out += "read by no rank: " + name + "\n";
  return out;
}

// A checkpoint that no loader can follow the plan with: a key is missing, or the tied head differs.
Result<void> check_ledger(const Plan& plan, const ShardModel& model, const std::string& dir) {
  std::string what;
  for (const Finding& f : ledger_findings_of(plan, model)) {
    if (f.id == "TP010") what = "TP010: " + f.point + " " + f.message;
  }
  const std::vector<std::string> missing = loader_ledger(plan, model).missing;
  if (!missing.empty()) {
    const std::size_t others = missing.size() - 1;
    what += (what.empty() ? "" : "; ") + ("TP007: " + missing[0]) + " is not in the checkpoint" +
            (others > 0 ? ", nor are " + std::to_string(others) + " others" : "") +
            ", and config.json asks for it";
  }
  if (what.empty()) return {};
  return bad_input(dir, what);
}

Error rejected(const std::string& dir, std::int64_t tp, const Rejection& why) {
  return bad_input(dir + " at tp " + std::to_string(tp), why.code + ": " + why.rule);
}

Result<int> run_plan(const Arguments& arguments, const std::string& dir, std::int64_t tp) {
  PS_TRY(const ShardModel model, open_shard_model(dir, tp));
  const bool json = arguments.has("--json");
  if (!model.rejected.empty()) {
    if (json) print(rejection_json(tp, model.rejected));
    return rejected(dir, tp, model.rejected[0]);
  }
  PS_TRY(const PlanOptions options, plan_options(arguments, model));
  PS_TRY(const Plan plan, make_plan(model.config, tp, options));
  const std::vector<std::string> problems = coverage_problems(plan, model.config);
  PS_CHECK(problems.empty(), problems.empty() ? "" : problems[0]);
  if (json) {
    print(plan_json(plan, model.config, model.sources()));
  } else if (!arguments.has("--quiet")) {
    print(plan_table(plan, model.config, arguments.has("--ranks")));
    print(ledger_text(plan, model));
  }
  PS_TRY_VOID(check_ledger(plan, model, dir));
  return 0;
}

Result<int> show(const Arguments& arguments, const Report& report, const std::string& subject) {
  if (arguments.has("--json")) {
    print(report_json(report));
  } else if (!arguments.has("--quiet") || exit_code(report) != 0) {
    TextStyle style;
    style.color = stdout_has_color();
    style.quiet = arguments.has("--quiet");
    print(report_text(report, subject, style));
  }
  return exit_code(report);
}

// A report too, so that a script finds the code where it finds all others.
Result<int> run_rejected(const Arguments& arguments, const ShardModel& model,
                         const std::string& dir, std::int64_t tp) {
  Report report;
  report.verdict = Verdict::kInvalid;
  for (const Rejection& r : model.rejected) {
    Finding f;
    f.id = r.code;
    f.fault_class = "shard";
    f.point = "config.json";
    f.message = r.rule;
    report.findings.push_back(std::move(f));
  }
  if (arguments.has("--json")) print(report_json(report));
  return rejected(dir, tp, model.rejected[0]);
}

Result<int> run_check(const Arguments& arguments, const std::string& dir, std::int64_t tp,
                      const std::string& path) {
  PS_TRY(const ShardModel model, open_shard_model(dir, tp));
  if (!model.rejected.empty()) return run_rejected(arguments, model, dir, tp);
  ShardCheckOptions options;
  PS_TRY(options.plan, plan_options(arguments, model));
  options.vocab_given = arguments.has("--replicate-vocab") || arguments.has("--vocab-multiple");
  PS_TRY(ShardSet shards, open_shards(path));
  if (model.family != nullptr) shards.strip(model.family->root);
  PS_TRY(Report report, check_shards(model, tp, shards, options));
  if (exit_code(report) == 1) report.verdict = Verdict::kDiverged;
  report.inputs = {
      {"model", json_string(dir)}, {"shards", json_string(path)}, {"tp", std::to_string(tp)}};
  return show(arguments, report, path);
}

Result<int> run_fsdp(const Arguments& arguments, const std::string& dir, std::int64_t world,
                     const std::string& path) {
  PS_TRY(const Model model, open_model_at(dir));
  PS_TRY(const ShardSet shards, open_shards(path));
  PS_TRY(Report report, check_fsdp_shards(model, world, shards));
  if (exit_code(report) == 1) report.verdict = Verdict::kDiverged;
  report.inputs = {
      {"model", json_string(dir)}, {"shards", json_string(path)}, {"fsdp", std::to_string(world)}};
  return show(arguments, report, path);
}

// A program's error text instead of shards.
bool is_text(const std::string& path) {
  std::error_code ec;
  const std::filesystem::path file(path);
  return std::filesystem::is_regular_file(file, ec) && file.extension() != ".safetensors";
}

Result<int> run_log(const Arguments& arguments, const std::string& model_dir,
                    const std::string& path) {
  PS_TRY(const std::string text, read_text(path));
  const auto trace = read_dtensor_trace(text);
  if (!trace) {
    return bad_input(path, "is neither shards nor an error text that names a sharded DTensor",
                     ".safetensors files, or DTensor(local_tensor=..., device_mesh=..., "
                     "placements=(Shard(dim=...)))");
  }
  std::optional<ModelConfig> config;
  if (!model_dir.empty()) {
    PS_TRY(config, load_config(model_dir));
  }
  Report report = explain_dtensor_trace(*trace, config ? &*config : nullptr);
  report.inputs = {{"text", json_string(path)}};
  return show(arguments, report, path);
}

Result<int> run_check_words(const Arguments& arguments, const std::vector<std::string>& words) {
  if (words.size() == 2 && is_text(words[1])) return run_log(arguments, "", words[1]);
  if (words.size() != 3) return wrong_usage(shard_command(), "check wants MODEL_DIR and SHARDS");
  if (is_text(words[2])) return run_log(arguments, words[1], words[2]);
  if (arguments.has("--fsdp")) {
    PS_TRY(const std::int64_t world, arguments.integer("--fsdp", 1, 1, 1 << 20));
    return run_fsdp(arguments, words[1], world, words[2]);
  }
  if (!arguments.has("--tp")) return wrong_usage(shard_command(), "no --tp N");
  PS_TRY(const std::int64_t tp, arguments.integer("--tp", 1, 1, 1 << 20));
  return run_check(arguments, words[1], tp, words[2]);
}

Result<int> run(const Arguments& arguments) {
  const std::vector<std::string>& words = arguments.positionals();
  if (words.empty()) return wrong_usage(shard_command(), "no 'plan' or 'check'");
  if (words[0] == "check") return run_check_words(arguments, words);
  if (words[0] != "plan") {
    return wrong_usage(shard_command(), "cannot '" + words[0] + "', only 'plan' and 'check'");
  }
  if (words.size() != 2) return wrong_usage(shard_command(), "plan wants one MODEL_DIR");
  if (!arguments.has("--tp")) return wrong_usage(shard_command(), "no --tp N");
  PS_TRY(const std::int64_t tp, arguments.integer("--tp", 1, 1, 1 << 20));
  return run_plan(arguments, words[1], tp);
}

}  // namespace

const Command& shard_command() {
  static const Command command{
      "shard",
      "plans which bytes each tensor-parallel rank holds, and checks shards against the plan",
      "shard plan|check MODEL_DIR --tp N [SHARDS] [options]",
      "plan: what each rank must hold, tensor by tensor, as slices of the checkpoint; with --json\n"
      "every record with its CRC-32. A number of ranks that the heads, the inner features or the\n"
      "head size do not allow is refused with its code (REJ_HEADS, REJ_GROUP, REJ_KV, REJ_INTER,\n"
      "REJ_HEADDIM, REJ_QKNORM_WIDE): nothing is ever floor-divided. A checkpoint without a "
      "tensor\n"
      "that is planned (TP007), or with a tied head of its own (TP010), is bad input.\n"
      "check: SHARDS (a folder with a .safetensors file a rank, or one file with rank0/... names)\n"
      "against the checkpoint, bit for bit. What is wrong is named by what it is instead: another\n"
      "rank's slice (TP003), a cut on the other dim (TP002), of the fused tensor (TP004), parts "
      "in\n"
      "another order (TP005), another key/value head (TP006), never loaded (TP007), ...\n"
      "Fused and transposed checkpoints are read under their own names: GPT-2, GPT-NeoX, BLOOM,\n"
      "Falcon, InternLM2, Phi-3, Megatron's core. Both also say which tensors nobody reads.\n"
      "SHARDS may also be the error text of a program that failed on a DTensor shard: it is "
      "explained\n"
      "which ranks hold rows, which hold none, and what was captured before it was gathered.\n\n"
      "  parscope shard plan fixtures/models/parscale-bytes --tp 4\n"
      "  parscope shard check model/ --tp 4 shards/\n"
      "  parscope shard check error.txt",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
