// parscope sparse check CASE_DIR | FILES
#include <cstdlib>

#include "core/file.h"
#include "diff/cli/command.h"
#include "diff/cli/engines.h"
#include "diff/cli/mask_request.h"
#include "diff/cli/output_probe.h"
#include "diff/picture/png.h"
#include "diff/report/report.h"
#include "diff/sparse/check.h"
#include "diff/sparse/picture.h"
#include "diff/sparse/probe.h"

namespace ps::cli {

namespace {

constexpr Option kOptions[] = {
    {"--engine", "NAME",
     "run model (its kernels) or reference on the case's inputs, judge what\n"
     "they make of it, and ask them what only a running engine can answer"},
    kDevice,
    kThreads,
    {"--candidate", "NAME", "judge the lists that the case stores under this name instead"},
    {"--layer", "L", "show: the layer; default: the first that selects"},
    {"--plane", "B,H", "batch row and head to draw; default 0,0"},
    {"--png", "FILE", "write a picture of the block lists over the token mask"},
    {"--min-recall", "X", "warn (SP022) where a query keeps less of its dense probability"},
    kJson,
    kQuiet};

Result<double> fraction(const Arguments& arguments, std::string_view name) {
  if (!arguments.has(name)) return 0.0;
  const std::string text = arguments.get(name);
  char* end = nullptr;
  const double x = std::strtod(text.c_str(), &end);
  if (!text.empty() && *end == '\0' && x >= 0 && x <= 1) return x;
  return bad_input(std::string(name), "wrong number", "from 0 to 1", "'" + text + "'");
}

Result<Report> report_on(const Arguments& arguments, const SparseCase& subject,
                         SparseReference& reference, const SparseCheckOptions& options) {
  if (!arguments.has("--engine")) return check_sparse_case(subject, reference, options);
  ModelConfig any;
  PS_TRY(const EngineChoice choice, engine_choice(arguments, any, "reference"));
  return probe_sparse_engine(
      subject,
      [&](const SparseConfig& config) -> Result<std::unique_ptr<SparseEngine>> {
        if (choice.reference) {
          PS_TRY(auto made, open_sparse_reference(config, subject.weights));
          return std::unique_ptr<SparseEngine>(std::move(made));
        }
        CandidateOptions candidate;
        candidate.device = choice.device;
        candidate.threads = choice.options.threads;
        return open_sparse_candidate(config, subject.weights, candidate);
      },
      reference, options);
}

// The lists of a layer over its token mask.
Result<BlockGrid> grid_of(const Arguments& arguments, const SparseCase& subject,
                          std::string& title) {
  std::int64_t first = 0;
  const auto layers = static_cast<std::int64_t>(subject.selected.size());
  while (first + 1 < layers && subject.selected[static_cast<std::size_t>(first)].empty()) ++first;
  PS_TRY(const std::int64_t layer, arguments.integer("--layer", first, 0, layers - 1));
  std::vector<std::int64_t> plane;  // none: the first
  if (arguments.has("--plane")) {
    PS_TRY(plane, mask_numbers(arguments, "--plane"));
  }
  const SparseConfig& c = subject.config;
  if (!plane.empty() && (plane.size() != 2 || plane[0] >= c.batch || plane[1] >= c.heads)) {
    return bad_input("--plane", "no such plane",
                     "B,H below " + std::to_string(c.batch) + "," + std::to_string(c.heads),
                     arguments.get("--plane"));
  }
  const std::int64_t b = plane.empty() ? 0 : plane[0], h = plane.empty() ? 0 : plane[1];
  PS_TRY(const PairMask mask, sparse_case_mask(subject));
  BlockLists lists = subject.selected[static_cast<std::size_t>(layer)];
  if (arguments.has("--candidate")) {
    PS_TRY(lists, candidate_lists(subject, arguments.get("--candidate")));
  }
  title = "layer " + std::to_string(layer) + ", batch " + std::to_string(b) + ", head " +
          std::to_string(h) + (lists.empty() ? " (dense: selects nothing)" : "");
  return block_grid(mask, lists, c.block, lists.empty() || lists.batch > b ? b : 0, h);
}

Result<void> write_png(const Arguments& arguments, const SparseCase& subject) {
  if (!arguments.has("--png")) return {};
  std::string title;
  PS_TRY(const BlockGrid grid, grid_of(arguments, subject, title));
  return write_text(arguments.get("--png"), png_bytes(draw_blocks(grid)));
}

Result<int> show(const Arguments& arguments, const SparseCase& subject) {
  std::string title;
  PS_TRY(const BlockGrid grid, grid_of(arguments, subject, title));
  PS_TRY_VOID(write_png(arguments, subject));
  if (arguments.has("--quiet")) return 0;
  print(subject.where + ": " + title + "\n" + blocks_summary(grid) + "\n" + blocks_text(grid) +
        blocks_legend());
  return 0;
}

Result<int> run(const Arguments& arguments) {
  const auto& words = arguments.positionals();
  if (words.empty() || (words[0] != "check" && words[0] != "show")) {
    return wrong_usage(sparse_command(), words.empty()
                                             ? "no 'check CASE_DIR' or 'show CASE_DIR'"
                                             : "cannot '" + words[0] + "', only check and show");
  }
  if (arguments.has("--png")) PS_TRY_VOID(probe_output(arguments.get("--png")));
  if (words.size() < 2) return wrong_usage(sparse_command(), "no CASE_DIR or FILES");
  SparseCheckOptions options;
  PS_TRY(options.min_recall, fraction(arguments, "--min-recall"));
  if (arguments.has("--candidate")) options.candidate = arguments.get("--candidate");
  PS_TRY(const SparseCase subject,
         open_sparse_case(std::vector<std::filesystem::path>(words.begin() + 1, words.end())));
  if (words[0] == "show") {
    if (arguments.has("--json")) {
      return wrong_usage(sparse_command(), "show draws; --json goes with check");
    }
    return show(arguments, subject);
  }
  PS_TRY_VOID(write_png(arguments, subject));
  PS_TRY(const std::unique_ptr<SparseReference> reference,
         open_sparse_reference(subject.config, subject.weights));
  PS_TRY(const Report report, report_on(arguments, subject, *reference, options));
  if (arguments.has("--json")) {
    print(report_json(report));
  } else if (!arguments.has("--quiet") || exit_code(report) != 0) {
    TextStyle style;
    style.color = stdout_has_color();
    print(report_text(report, words[1], style));
  }
  return exit_code(report);
}

}  // namespace

const Command& sparse_command() {
  static const Command command{
      "sparse",
      "checks block-sparse attention: selection, output, gradients",
      "sparse check|show CASE_DIR | FILES [options]",
      "A case is what an implementation was given and what it made of it: case.json with "
      "\"config\"\n"
      "and \"selected\" (block lists [layer][batch][head][block row]), and data.safetensors with "
      "q, k,\n"
      "v [layers,B,H|Hk,N,D], the projection (sketch, or gate_wq and gate_wk), and as much of the "
      "rest\n"
      "as there is: token_mask (any form) or token_mask_in_bits, and for each layer "
      "block_allowed,\n"
      "scores, transition, walk, block_mask, out, grad/{g,dq,dk,dv}; "
      "decodeS/layerL/{walk_row,out}.\n"
      "FILES: folders, .json and .safetensors; later ones replace members and tensors of earlier\n"
      "ones, so that your outputs can lie beside a case that is not yours.\n\n"
      "A kernel's fault and a selection's are told apart: outputs are compared with attention "
      "over\n"
      "the case's OWN lists, lists with the best blocks by score. What is wrong has a code:\n"
      "  SP001 lost queries   SP002 disallowed blocks  SP003 no diagonal      SP004 duplicates\n"
      "  SP005 out of range   SP006 wrong count        SP007 forced missing   SP008 mask not "
      "applied\n"
      "  SP009 full != dense  SP010 sum of weights     SP011 other keys       SP013 sees the "
      "future\n"
      "  SP015 walk state     SP016 stale state        SP017 decode           SP018 padded means\n"
      "  SP019 gradients      SP020 degenerate (W)     SP021 near ties (W)    SP022 recall (W)\n"
      "  SP023 mask forms     SP024 dense layers       with --engine: SP012 larger tau, SP014 "
      "batch\n\n"
      "show draws the block lists of a layer over its token mask: tiles that the mask shows "
      "wholly\n"
      "(FULL), in part or not at all, and which of them are selected, twice, or from the "
      "future.\n\n"
      "  parscope sparse check fixtures/golden/sparse/walk_basic_grad\n"
      "  parscope sparse show fixtures/golden/sparse/walk_left_padding_3d --plane 1,0 --png "
      "lists.png\n"
      "  parscope sparse check fixtures/golden/sparse/walk_decode mine.safetensors --json\n"
      "  parscope sparse check fixtures/golden/sparse/walk_decode --engine model\n"
      "  parscope sparse check fixtures/golden/sparse/walk_noncausal --candidate diagonal_dropped",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
