// parscope mask show|check|diff|probe
#include <algorithm>

#include "core/file.h"
#include "core/json.h"
#include "diff/cli/attention.h"
#include "diff/cli/command.h"
#include "diff/cli/engines.h"
#include "diff/cli/mask_probe.h"
#include "diff/cli/mask_request.h"
#include "diff/cli/output_probe.h"
#include "diff/mask/ledger.h"
#include "diff/mask/picture.h"
#include "diff/mask/source.h"
#include "diff/mask/text.h"
#include "diff/mask/why.h"
#include "diff/picture/png.h"
#include "diff/report/report.h"
#include "diff/sparse/case.h"
#include "diff/sparse/picture.h"

namespace ps::cli {

namespace {

using mask::CellIndex;
using mask::Dims;
using mask::Expected;
using mask::Mask;
using mask::Program;
using mask::Reading;
using mask::Source;

constexpr Option kOptions[] = {
    {"--size", "B,H,Q,KV", "sizes of an expression that gives none; also Q,KV, or one for both"},
    {"--form", "NAME",
     "what a tensor's values mean: attend (true = may attend), masked\n"
     "(true = hidden), additive (0 or -inf); default auto: by dtype"},
    {"--cast", "TYPE", "convert an additive mask to f32, bf16 or f16 first, as a model would"},
    {"--block", "BQ,BK", "tile of block lists and of the summary; default 128,128"},
    {"--edges", "RULE",
     "an all-true tile at the edge is partial (torch, the default) or\nfull (inbounds)"},
    {"--why", "B,H,I,J", "show: which clauses decide this pair, and what would turn it over"},
    {"--plane", "B,H", "batch row and head to draw; default: the first that differs"},
    {"--lists", "FILE",
     "show: block lists over the mask, tiles of --block: JSON [row][entry] or\n"
     "[B][H][row][entry]; selected, twice, from the future, from nothing"},
    {"--sample", "", "show: a table of the positions that say most, not a picture"},
    {"--text", "", "show: the program in the text syntax"},
    {"--png", "FILE", "write a picture"},
    {"--step-list", "FILE", "check: a JSON list of the programs of generation steps"},
    {"--ledger", "FILE", "check: a JSON list of attention calls, requested and executed backend"},
    kEngineOption,
    kDevice,
    kDType,
    kThreads,
    kTokens,
    kRandom,
    kSeed,
    kSteps,
    kChunk,
    kAttention,
    kJson,
    kQuiet};

Result<std::pair<std::int64_t, std::int64_t>> plane_of(const MaskRequest& r, const Mask& m,
                                                       const Mask* expected) {
  if (r.plane) {
    if (r.plane->first < m.dims().B && r.plane->second < m.dims().H) return *r.plane;
    return bad_input("--plane", "no such plane",
                     "below " + std::to_string(m.dims().B) + "," + std::to_string(m.dims().H),
                     std::to_string(r.plane->first) + "," + std::to_string(r.plane->second));
  }
  if (expected == nullptr) return std::pair<std::int64_t, std::int64_t>{0, 0};
  const auto first = mask::combine(m, *expected, mask::SetOp::kXor).first();
  return first ? std::pair{(*first)[0], (*first)[1]} : std::pair<std::int64_t, std::int64_t>{0, 0};
}

Result<void> write_png(const Arguments& a, const mask::View& view) {
  if (!a.has("--png")) return {};
  return write_text(a.get("--png"), png_bytes(mask::draw_mask(view)));
}

int finish(const Arguments& a, Report& report, const std::string& subject) {
  const bool wrong = std::any_of(report.findings.begin(), report.findings.end(),
                                 [](const Finding& f) { return f.severity == Severity::kError; });
  report.verdict = wrong ? Verdict::kDiverged : Verdict::kEquivalent;
  report.environment.emplace_back("version", json_string(PS_VERSION));
  if (a.has("--json")) {
    print(report_json(report));
  } else if (!a.has("--quiet") || wrong) {
    print(report_text(report, subject, {stdout_has_color(), a.has("--quiet")}));
  }
  return exit_code(report);
}

// ---- show ----

// Rows of lists, of one plane or of all: [row][entry], [B][H][row][entry].
Result<int> show_lists(const Arguments& a, const MaskRequest& r, const Mask& m,
                       std::pair<std::int64_t, std::int64_t> plane) {
  const std::string path = a.get("--lists");
  if (r.read.bq != r.read.bk) {
    return bad_input("--block", "block lists have square tiles", "one size for both axes",
                     a.get("--block"));
  }
  PS_TRY(const std::string text, read_text(path));
  PS_TRY(Json json, parse_json(text, path, {16, 1 << 24}));
  const Dims& d = m.dims();
  PairMask mask(1, 1, d.Q, d.KV);
  for (std::int64_t i = 0; i < d.Q; ++i) {
    for (std::int64_t j = 0; j < d.KV; ++j) {
      mask.cells[static_cast<std::size_t>(i * d.KV + j)] = m.at(plane.first, plane.second, i, j);
    }
  }
  const std::int64_t size = r.read.bq, rows = (d.KV + size - 1) / size - (d.KV - d.Q) / size;
  const Json* inner = &json;
  int depth = 0;
  while (inner->is(Json::Kind::kArray) && depth < 5) {
    ++depth;
    if (inner->items.empty()) break;  // a row without blocks, as left padding makes them
    inner = &inner->items[0];
  }
  const bool planes = depth == 4;
  if (!planes) {
    Json outer;
    outer.kind = Json::Kind::kArray;
    outer.items = {outer};
    outer.items[0].items = {std::move(json)};
    json = std::move(outer);
  }
  const auto heads = planes ? static_cast<std::int64_t>(json.items[0].items.size()) : 1;
  const auto batch = static_cast<std::int64_t>(json.items.size());
  PS_TRY(const BlockLists lists, lists_of_json(json, path, batch, heads, rows));
  BlockLists one(1, 1, rows);
  for (std::int64_t i = 0; i < rows; ++i) {
    one.at(0, 0, i) =
        lists.at(std::min(plane.first, batch - 1), std::min(plane.second, heads - 1), i);
  }
  const BlockGrid grid = block_grid(mask, one, size, 0, 0);
  if (a.has("--png")) PS_TRY_VOID(write_text(a.get("--png"), png_bytes(draw_blocks(grid))));
  const bool wrong = grid.outside > 0 || std::any_of(grid.tiles.begin(), grid.tiles.end(),
                                                     [](const BlockTile& t) { return t.wrong(); });
  if (!a.has("--quiet")) {
    print(blocks_summary(grid) + "\n" + blocks_text(grid) + blocks_legend());
  }
  return wrong ? 1 : 0;
}

Result<int> show(const Arguments& a, const MaskRequest& r, const std::string& word) {
  PS_TRY(const Source source, mask::open_source(word, r.sizes));
  PS_TRY(const Reading reading, mask::read_source(source, nullptr, r.sizes, r.read));
  const Program* program = source.program ? &*source.program : nullptr;
  const bool json = a.has("--json");
  Report report;
  report.findings = reading.findings;
  std::string why_text;
  if (a.has("--why")) {
    if (program == nullptr) return bad_input("--why", "a tensor has no clauses", "a mask program");
    PS_TRY(const auto n, mask_numbers(a, "--why"));
    const Dims& d = program->dims;
    if (n.size() != 4 || n[0] >= d.B || n[1] >= d.H || n[2] >= d.Q || n[3] >= d.KV) {
      return bad_input("--why", "no such pair", "B,H,I,J below " + mask::to_string(d),
                       a.get("--why"));
    }
    const mask::Why why = mask::why(*program, {n[0], n[1], n[2], n[3]});
    report.inputs.emplace_back("why", why.json());
    why_text = why.text() + "\n";
  }
  PS_TRY(const auto plane, plane_of(r, reading.mask, nullptr));
  if (a.has("--lists")) {
    if (json) return wrong_usage(mask_command(), "--lists draws; it goes without --json");
    return show_lists(a, r, reading.mask, plane);
  }
  const mask::View view{&reading.mask, nullptr, program, plane.first, plane.second};
  PS_TRY_VOID(write_png(a, view));
  report.inputs.emplace_back("mask", mask_facts_json(reading.mask, r));
  if (program != nullptr) {
    report.inputs.emplace_back("program", mask::program_json(*program));
    report.inputs.emplace_back("text", json_string(mask::text_of(*program)));
  }
  if (json) return finish(a, report, source.name);
  if (a.has("--text")) {
    if (program == nullptr) return bad_input("--text", "a tensor has no text", "a mask program");
    print(mask::text_of(*program));
    return 0;
  }
  if (!why_text.empty()) {
    print(why_text);
    return 0;
  }
  const Mask& m = reading.mask;
  if (!a.has("--quiet")) {
    if (program != nullptr) print(mask::text_of(program->expr, *program) + "\n");
    print(mask::to_string(m.dims()) + ": " + std::to_string(m.count()) + " pairs allowed, " +
          std::to_string(m.empty_rows()) + " queries without a key; batch " +
          std::to_string(plane.first) + ", head " + std::to_string(plane.second) + "\n");
    print(a.has("--sample") ? mask::sampled_text(view) : mask::terminal_picture(view));
  }
  return reading.findings.empty() ? 0 : finish(a, report, source.name);
}

// ---- check and diff ----

Result<std::vector<Finding>> from_file(const Arguments& a, std::string_view option,
                                       Result<std::vector<Finding>> (*check)(const Json&,
                                                                             const std::string&)) {
  if (!a.has(option)) return std::vector<Finding>();
  const std::string path = a.get(option);
  PS_TRY(const std::string text, read_text(path));
  PS_TRY(const Json json, parse_json(text, path, {128, 1 << 24}));
  return check(json, path);
}

void put_first(std::vector<Finding>& all, std::vector<Finding> more) {
  all.insert(all.begin(), std::make_move_iterator(more.begin()),
             std::make_move_iterator(more.end()));
}

// One mask alone: can every query see a key?
Result<int> check_one(const Arguments& a, const MaskRequest& r, const std::string& word,
                      Report& report) {
  PS_TRY(const Source source, mask::open_source(word, r.sizes));
  PS_TRY(const Expected expected, mask::expected_from(source, r.sizes, r.read));
  PS_TRY(const Reading reading, mask::read_source(source, &expected, r.sizes, r.read));
  if (auto rows = mask::check_rows(expected, reading.mask))
    report.findings.push_back(std::move(*rows));
  put_first(report.findings, reading.findings);
  report.inputs.emplace_back("mask", mask_facts_json(reading.mask, r));
  PS_TRY(const auto plane, plane_of(r, reading.mask, nullptr));
  PS_TRY_VOID(
      write_png(a, {&reading.mask, nullptr, &expected.program(), plane.first, plane.second}));
  return finish(a, report, source.name);
}

std::string cells_json(const mask::Cells& cells) {
  return "{\"count\":" + std::to_string(cells.count) +
         ",\"first\":" + (cells.first ? mask::json_of(*cells.first) : "null") + "}";
}

Result<int> compare_two(const Arguments& a, const MaskRequest& r,
                        const std::vector<std::string>& words, bool all_checks, Report& report) {
  // A text without sizes takes those of the other side.
  auto candidate_source = mask::open_source(words[0], r.sizes);
  if (candidate_source.ok() && candidate_source->guessed) {
    const auto other = mask::open_source(words[1], r.sizes);
    if (other.ok() && !other->guessed) {
      PS_TRY(const Expected alone, mask::expected_from(*other, r.sizes, r.read));
      candidate_source = mask::open_source(words[0], alone.mask().dims());
    }
  }
  std::optional<Dims> sizes = r.sizes;
  if (candidate_source.ok() && candidate_source->program) sizes = candidate_source->program->dims;
  if (!sizes && candidate_source.ok() && candidate_source->tensor) {
    const Shape& shape = candidate_source->tensor->shape;
    const std::size_t n = shape.size();
    if (n >= 2 && n <= 4) {
      sizes = Dims{n > 2 ? shape[0] : 1, n == 4 ? shape[1] : 1, shape[n - 2], shape[n - 1]};
    }
  }
  PS_TRY(const Source expected_source, mask::open_source(words[1], sizes));
  PS_TRY(const Expected expected, mask::expected_from(expected_source, r.sizes, r.read));
  if (!candidate_source.ok()) {
    candidate_source = mask::open_source(words[0], expected.mask().dims());
    if (!candidate_source.ok()) return candidate_source.error();
  }
  PS_TRY(const Reading reading, mask::read_source(*candidate_source, &expected, r.sizes, r.read));
  PS_TRY(const mask::Comparison c, mask::compare(expected, reading.mask));
  const mask::Difference d = mask::difference(reading.mask, expected.mask());
  if (all_checks) {
    PS_TRY(std::vector<Finding> findings, mask::check(expected, reading.mask));
    put_first(report.findings, std::move(findings));
    put_first(report.findings, reading.findings);
  } else if (!d.equal()) {
    Finding f =
        mask::mask_finding("masks-differ", Severity::kError, mask::where_of(*d.first),
                           std::to_string(c.leak.count) + " pairs only the candidate allows, " +
                               std::to_string(c.hidden.count) + " only the expected mask");
    report.findings.push_back(std::move(f));
  }
  report.inputs.emplace_back("candidate", mask_facts_json(reading.mask, r));
  report.inputs.emplace_back("expected", mask_facts_json(expected.mask(), r));
  report.inputs.emplace_back("leak", cells_json(c.leak));
  report.inputs.emplace_back("hidden", cells_json(c.hidden));
  std::string tags, names;
  for (const auto& [tag, cells] : c.leak_by_tag) {
    tags += (tags.empty() ? "" : ",") + json_string(tag) + ":" + cells_json(cells);
  }
  for (const std::string& name : c.hypotheses)
    names += (names.empty() ? "" : ",") + json_string(name);
  report.inputs.emplace_back("leak_by_tag", "{" + tags + "}");
  report.inputs.emplace_back("self_hidden", cells_json(c.self_hidden));
  report.inputs.emplace_back("hypotheses", "[" + names + "]");
  report.inputs.emplace_back("first_difference", d.first ? mask::json_of(*d.first) : "null");
  PS_TRY(const auto plane, plane_of(r, reading.mask, &expected.mask()));
  const mask::View view{&reading.mask, &expected.mask(), &expected.program(), plane.first,
                        plane.second};
  PS_TRY_VOID(write_png(a, view));
  const int code = finish(a, report, words[0] + " against " + words[1]);
  if (!a.has("--json") && !a.has("--quiet") && !d.equal()) {
    print("batch " + std::to_string(plane.first) + ", head " + std::to_string(plane.second) +
          ":\n" + mask::terminal_picture(view));
  }
  return code;
}

Result<int> run(const Arguments& a) {
  const auto& words = a.positionals();
  const Command& me = mask_command();
  if (words.empty()) return wrong_usage(me, "no show, check, diff or probe");
  const std::string& verb = words[0];
  if (verb != "show" && verb != "check" && verb != "diff" && verb != "probe") {
    return wrong_usage(me, "cannot '" + verb + "', only show, check, diff and probe");
  }
  const std::vector<std::string> names(words.begin() + 1, words.end());
  if (a.has("--png")) PS_TRY_VOID(probe_output(a.get("--png")));
  PS_TRY(const MaskRequest r, mask_request(a));
  if (verb == "show") {
    if (names.size() != 1) return wrong_usage(me, "show takes one MASK");
    return show(a, r, names[0]);
  }
  Report report;
  if (verb == "probe") {
    if (names.empty() || names.size() > 2)
      return wrong_usage(me, "probe takes MODEL_DIR [EXPECTED]");
    std::optional<std::string> expected;
    if (names.size() == 2) expected = names[1];
    if (is_sparse_case(names[0])) {
      if (expected) return wrong_usage(me, "a block-sparse case brings its own expectation");
      PS_TRY_VOID(probe_sparse(a, names[0], report));
    } else {
      PS_TRY_VOID(probe_model(a, names[0], expected, report));
    }
    return finish(a, report, names[0]);
  }
  const bool check = verb == "check";
  if (!check && names.size() != 2) return wrong_usage(me, "diff takes CANDIDATE and EXPECTED");
  if (names.size() > 2) return wrong_usage(me, "too many arguments: " + names[2]);
  PS_TRY(report.findings, from_file(a, "--step-list", mask::check_step_list));
  PS_TRY(std::vector<Finding> ledger, from_file(a, "--ledger", mask::check_ledger));
  put_first(report.findings, std::move(ledger));
  if (names.size() == 2) return compare_two(a, r, names, check, report);
  if (names.size() == 1) return check_one(a, r, names[0], report);
  if (!a.has("--step-list") && !a.has("--ledger"))
    return wrong_usage(me, "check takes CANDIDATE and EXPECTED");
  return finish(a, report, a.has("--step-list") ? a.get("--step-list") : a.get("--ledger"));
}

}  // namespace

const Command& mask_command() {
  static const Command command{
      "mask",
      "shows, checks and compares attention masks in any representation",
      "mask show MASK | check [CANDIDATE] EXPECTED | diff CANDIDATE EXPECTED | probe MODEL",
      "A MASK is a program (a JSON file of parscope.mask/1, or a text), the folder of a golden "
      "case,\n"
      "FILE.json#/variants/0, a tensor (FILE.safetensors:NAME), FlexAttention's block lists\n"
      "(FILE.safetensors:PREFIX/), lengths=5,3 starts=0,2, cu_seqlens=0,11,20 causal,\n"
      "is_causal=top-left or bottom-right, tensors lengths, cu_seqlens or row_begin and row_runs\n"
      "(FILE.safetensors:PREFIX/, +causal behind it), or an expression. In one, ! & ^ | combine\n"
      "leaves, and #tag labels a clause for reports (future, padding, segment, window, prefix, "
      "block):\n\n"
      "  causal #future & (generated(48) | segments(0-11,11-20)) #segment\n"
      "  causal & kv_range(lo=[0,6])        left padding of two batch rows\n"
      "  causal & window(4)                 a sliding window of 5, both ends inclusive\n"
      "  parscale_prefix(8)                 ParScale's prefix cache: 8 slots that all see\n"
      "  cross_replica(rep, pos)            ParScale's replicas that see each other's own "
      "position\n\n"
      "check counts leaks by clause, hidden pairs and rows without a key, and names every known\n"
      "mistake that gives the candidate exactly: inverted, transposed, all true, plain causal, "
      "aligned\n"
      "top-left, off by one, heads permuted (codes MK001 to MK050). diff only compares.\n"
      "probe finds the mask that a model really applies, layer by layer and step by step, from "
      "the\n"
      "outside: with queries of zero and one-hot values. It is held to the config and the inputs, "
      "or\n"
      "to a program: probe MODEL_DIR EXPECTED. Of a case of block-sparse attention "
      "(docs/sparse.md)\n"
      "it is held to causality, the token mask and the blocks that the kernels say they "
      "selected.\n\n"
      "  parscope mask show 'causal & window(4)' --size 12\n"
      "  parscope mask show fixtures/golden/masks/seed_segments_contiguous --why 0,0,30,5\n"
      "  parscope mask show causal --size 64 --block 8 --lists lists.json --png lists.png\n"
      "  parscope mask check causal fixtures/golden/masks/seed_segments_contiguous\n"
      "  parscope mask diff mask.safetensors:bias program.json --form additive --png diff.png\n"
      "  parscope mask probe fixtures/models/parscale-bytes --random 2x9 --steps 3\n"
      "  parscope mask probe fixtures/models/parscale-bytes --random 2x40 --attention "
      "walk:bs=8,tau=2",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
