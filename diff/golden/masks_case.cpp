#include "diff/golden/masks_case.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "core/file.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "diff/golden/masks_attention.h"
#include "diff/mask/check.h"
#include "diff/mask/evaluate.h"
#include "diff/mask/tiles.h"

namespace ps {

namespace {

using mask::Dims;
using mask::Expected;
using mask::Mask;
using mask::Program;
using Kind = Json::Kind;

std::string g17(double x) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

// The values of case.json and data.safetensors, each with what stands there when it is wrong.
class Case {
 public:
  Case(std::string where, Json json, SafetensorsFile file)
      : where_(std::move(where)), json_(std::move(json)), file_(std::move(file)) {}

  const Json& json() const { return json_; }
  const std::string& where() const { return where_; }

  Result<const Json*> field(const Json& object, const std::string& name,
                            const std::string& at) const {
    const Json* found = object.find(name);
    if (found == nullptr) return bad_input(where_ + "#" + at, "lacks \"" + name + "\"");
    return found;
  }
  // A stored number, list or null against the canonical text of ours.
  Result<void> expect(const Json& object, const std::string& name, const std::string& at,
                      const std::string& mine) const {
    PS_TRY(const Json* found, field(object, name, at));
    if (found->dump() == mine) return {};
    return bad_input(where_ + "#" + at + "/" + name, "is stored otherwise than computed", mine,
                     found->brief());
  }
  Result<void> expect_number(const std::string& name, double mine) const {
    PS_TRY(const Json* found, field(json_, name, ""));
    const bool number = found->is(Kind::kNumber) || found->is(Kind::kInteger);
    if (number && found->number == mine) return {};
    return bad_input(where_ + "#/" + name, "is stored otherwise than computed", g17(mine),
                     found->brief());
  }
  Result<std::int64_t> integer(const Json& json, const std::string& at) const {
    if (json.is(Kind::kInteger) && json.integer > 0) return json.integer;
    return bad_input(where_ + "#" + at, "not a positive integer", "1 or more", json.brief());
  }
  Result<TensorView> tensor(const std::string& name, DType dtype, const Shape& shape) {
    used_.insert(name);
    const TensorView* t = file_.find(name);
    if (t == nullptr) return bad_input(file_.where(), "lacks the tensor " + name);
    if (t->dtype != dtype || t->shape != shape) {
      return bad_input(file_.where() + ":" + name, "has another type or shape",
                       std::string(safetensors_name(dtype)) + to_string(shape),
                       std::string(safetensors_name(t->dtype)) + to_string(t->shape));
    }
    return *t;
  }
  template <class T>
  Result<void> expect_cells(const std::string& name, DType dtype, const Shape& shape,
                            const std::vector<T>& mine) {
    PS_TRY(const TensorView view, tensor(name, dtype, shape));
    const auto stored = view.as<T>();
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (stored[i] == mine[i]) continue;
      return bad_input(file_.where() + ":" + name, "differs at element " + std::to_string(i),
                       std::to_string(mine[i]), std::to_string(stored[i]));
    }
    return {};
  }
  Result<void> nothing_left() const {
    for (const auto& entry : file_.entries()) {
      if (used_.contains(entry.name)) continue;
      return bad_input(file_.where() + ":" + entry.name, "no tensor of a mask case");
    }
    return {};
  }

 private:
  std::string where_;
  Json json_;
  SafetensorsFile file_;
  std::set<std::string> used_;
};

template <class Index>
std::string text_of(const std::optional<Index>& index) {
  if (!index) return "null";
  std::string out;
  for (const std::int64_t i : *index) out += (out.empty() ? "[" : ",") + std::to_string(i);
  return out + "]";
}

Result<void> check_bits(Case& c, const std::string& name, const Mask& m) {
  const std::vector<std::uint8_t> bits = mask::to_bits(m);
  return c.expect_cells(name, DType::kU8, {static_cast<std::int64_t>(bits.size())}, bits);
}

std::int64_t never_attended(const Mask& m) {
  std::int64_t total = 0;
  for (std::int64_t plane = 0; plane < m.dims().B * m.dims().H; ++plane) {
    total += m.dims().KV;
    for (const auto& [lo, hi] :
         mask::columns_used(m.plane(plane / m.dims().H, plane % m.dims().H))) {
      total -= hi - lo;
    }
  }
  return total;
}

// The recursion against run lists at cells drawn evenly, and every tile's interval verdict.
Result<std::string> check_evaluators(const Case& c, const Program& p, const Mask& m,
                                     std::int64_t bq, std::int64_t bk) {
  const auto& [B, H, Q, KV] = p.dims;
  const std::int64_t cells = B * H * Q * KV, stride = std::max<std::int64_t>(1, cells / 65521);
  for (std::int64_t at = 0; at < cells; at += stride) {
    const std::int64_t j = at % KV, i = at / KV % Q, h = at / KV / Q % H, b = at / KV / Q / H;
    if (mask::allowed(p, b, h, i, j) != m.at(b, h, i, j)) {
      return machine_error(c.where(), "run lists and the recursion disagree at " +
                                          mask::where_of(mask::CellIndex{b, h, i, j}));
    }
  }
  const mask::BlockSummary s = mask::summarize(m, bq, bk);
  mask::TileClassifier classifier(p);
  std::int64_t decided = 0;
  for (std::size_t t = 0; t < s.inbounds.size(); ++t) {
    const auto at = static_cast<std::int64_t>(t);
    const std::int64_t col = at % s.nk, row = at / s.nk % s.nq, plane = at / s.nk / s.nq;
    const mask::Fill fill =
        classifier.classify({plane / H, plane % H, row * bq, std::min((row + 1) * bq, Q) - 1,
                             col * bk, std::min((col + 1) * bk, KV) - 1});
    if (fill == mask::Fill::kUnknown) continue;
    ++decided;
    if (static_cast<std::uint8_t>(fill) != s.inbounds[t]) {
      return machine_error(c.where(), "tile " + std::to_string(at) + " is classified wrongly");
    }
  }
  return std::to_string(decided) + " of " + std::to_string(s.inbounds.size());
}

Result<void> check_blocks(Case& c, const Mask& m, std::int64_t bq, std::int64_t bk) {
  const mask::BlockSummary s = mask::summarize(m, bq, bk);
  PS_TRY(const Json* blocks, c.field(c.json(), "blocks", ""));
  const Shape shape = {s.dims.B, s.dims.H, s.nq, s.nk};
  for (const bool torch : {true, false}) {
    const std::string name = torch ? "torch" : "inbounds";
    const auto rule = torch ? mask::EdgeRule::kTorch : mask::EdgeRule::kInbounds;
    PS_TRY_VOID(c.expect_cells("blocks/" + name, DType::kU8, shape, s.fills(rule)));
    PS_TRY(const Json* counts, c.field(*blocks, name, "/blocks"));
    const auto totals = s.totals(rule);
    const std::string at = "/blocks/" + name;
    PS_TRY_VOID(c.expect(*counts, "empty", at, std::to_string(totals.empty)));
    PS_TRY_VOID(c.expect(*counts, "partial", at, std::to_string(totals.partial)));
    PS_TRY_VOID(c.expect(*counts, "full", at, std::to_string(totals.full)));
  }
  const mask::BlockLists lists = mask::block_lists(s);
  const Shape rows = {s.dims.B, s.dims.H, s.nq};
  const auto i32 = DType::kI32;
  PS_TRY_VOID(c.expect_cells("bm/kv_num_blocks", i32, rows, lists.partial.num));
  PS_TRY_VOID(c.expect_cells("bm/kv_indices", i32, shape, lists.partial.indices));
  PS_TRY_VOID(c.expect_cells("bm/full_kv_num_blocks", i32, rows, lists.full.num));
  return c.expect_cells("bm/full_kv_indices", i32, shape, lists.full.indices);
}

// Values of one kind (out or lse): ours, the case's float64, the case's float32.
struct Outputs {
  const char* name;
  const std::vector<double>& mine;
  TensorView f64, flex;
  double flex_tolerance;  // masks.md 8, with room for other machines
};

Result<double> check_outputs(const Case& c, const Outputs& o) {
  double apart = 0;
  for (std::size_t i = 0; i < o.mine.size(); ++i) {
    const double mine = o.mine[i], f64 = o.f64.as<double>()[i];
    const double flex = static_cast<double>(o.flex.as<float>()[i]);
    const bool close =
        mine == f64 || std::fabs(mine - f64) <= 1e-12 * std::max(1.0, std::fabs(f64));
    const bool flex_close = flex == f64 || std::fabs(flex - f64) <= o.flex_tolerance;
    if (!close || !flex_close) {
      const char* side = close ? "flex/" : "f64/";
      return bad_input(c.where(),
                       std::string(side) + o.name + " differs at element " + std::to_string(i),
                       g17(close ? f64 : mine), g17(close ? flex : f64));
    }
    if (std::isfinite(f64)) apart = std::max(apart, std::fabs(flex - f64));
  }
  return apart;
}

Result<void> check_attention(Case& c, const Mask& m) {
  const auto& [B, H, Q, KV] = m.dims();
  PS_TRY(const Json* kv_heads_json, c.field(c.json(), "kv_heads", ""));
  PS_TRY(const Json* head_dim_json, c.field(c.json(), "head_dim", ""));
  PS_TRY(const Json* scale, c.field(c.json(), "scale", ""));
  PS_TRY(const std::int64_t kv_heads, c.integer(*kv_heads_json, "/kv_heads"));
  PS_TRY(const std::int64_t D, c.integer(*head_dim_json, "/head_dim"));
  if (H % kv_heads != 0) {
    return bad_input(c.where() + "#/kv_heads", "does not divide the heads", std::to_string(H),
                     std::to_string(kv_heads));
  }
  const bool number = scale->is(Kind::kNumber) || scale->is(Kind::kInteger);
  if (!number) return bad_input(c.where() + "#/scale", "not a number", "", scale->brief());
  PS_TRY(const TensorView q, c.tensor("q", DType::kF32, {B, H, Q, D}));
  PS_TRY(const TensorView k, c.tensor("k", DType::kF32, {B, kv_heads, KV, D}));
  PS_TRY(const TensorView v, c.tensor("v", DType::kF32, {B, kv_heads, KV, D}));
  PS_TRY(const TensorView out64, c.tensor("f64/out", DType::kF64, {B, H, Q, D}));
  PS_TRY(const TensorView lse64, c.tensor("f64/lse", DType::kF64, {B, H, Q}));
  PS_TRY(const TensorView out32, c.tensor("flex/out", DType::kF32, {B, H, Q, D}));
  PS_TRY(const TensorView lse32, c.tensor("flex/lse", DType::kF32, {B, H, Q}));
  const AttentionOutput mine = masked_attention(m, q, k, v, scale->number);
  PS_TRY(const double out_apart, check_outputs(c, {"out", mine.out, out64, out32, 2e-6}));
  PS_TRY(const double lse_apart, check_outputs(c, {"lse", mine.lse, lse64, lse32, 5e-6}));
  PS_TRY_VOID(c.expect_number("flex_vs_fp64_max_abs", out_apart));
  return c.expect_number("lse_max_abs", lse_apart);
}

// ---- variants ----

// All matches are listed. Where the variant changes nothing ("equal"), a producer may leave out the
// others, which hold because the expected mask has that form itself.
Result<void> check_hypotheses(const Case& c, const Json& expect, const std::string& at,
                              const std::vector<std::string>& mine) {
  PS_TRY(const Json* list, c.field(expect, "hypotheses", at));
  std::set<std::string> stored;
  for (const Json& name : list->items) stored.insert(name.text);
  const std::set<std::string> all(mine.begin(), mine.end());
  const bool same = all.contains("equal")
                        ? stored.contains("equal") &&
                              std::includes(all.begin(), all.end(), stored.begin(), stored.end())
                        : stored == all;
  if (list->is(Kind::kArray) && same && stored.size() == list->items.size()) return {};
  std::string text;
  for (const std::string& name : mine) text += (text.empty() ? "" : ", ") + name;
  return bad_input(c.where() + "#" + at + "/hypotheses", "other hypotheses hold", "[" + text + "]",
                   list->brief());
}

Result<void> check_variant(Case& c, const Expected& expected, const Json& program,
                           const Json& variant, std::size_t n) {
  const std::string at = "/variants/" + std::to_string(n);
  PS_TRY(const Json* expr, c.field(variant, "expr", at));
  PS_TRY(const Program p,
         mask::parse_program(mask::with_expression(program, *expr, variant.find("extra_arrays")),
                             c.where(), at));
  PS_TRY(const Mask actual, mask::evaluate(p));
  PS_TRY_VOID(check_bits(c, "variant/" + std::to_string(n) + "/bits", actual));
  PS_TRY(const mask::Comparison mine, mask::compare(expected, actual));
  PS_TRY(const Json* expect, c.field(variant, "expect", at));
  const std::string e = at + "/expect";
  PS_TRY_VOID(c.expect(*expect, "leak", e, std::to_string(mine.leak.count)));
  PS_TRY_VOID(c.expect(*expect, "first_leak", e, text_of(mine.leak.first)));
  PS_TRY_VOID(c.expect(*expect, "hidden", e, std::to_string(mine.hidden.count)));
  PS_TRY_VOID(c.expect(*expect, "first_hidden", e, text_of(mine.hidden.first)));
  PS_TRY_VOID(c.expect(*expect, "self_hidden", e, std::to_string(mine.self_hidden.count)));
  PS_TRY_VOID(c.expect(*expect, "fully_masked_rows", e, std::to_string(mine.empty_rows)));
  PS_TRY_VOID(c.expect(*expect, "first_fully_masked", e, text_of(mine.first_empty_row)));
  PS_TRY(const Json* tags, c.field(*expect, "leak_by_tag", e));
  std::set<std::string> named;
  for (const auto& [tag, cells] : mine.leak_by_tag) {
    named.insert(tag);
    PS_TRY(const Json* stored, c.field(*tags, tag, e + "/leak_by_tag"));
    const std::string spot = e + "/leak_by_tag/" + tag;
    PS_TRY_VOID(c.expect(*stored, "count", spot, std::to_string(cells.count)));
    PS_TRY_VOID(c.expect(*stored, "first", spot, text_of(cells.first)));
  }
  for (const std::string& tag : tags->names) {
    if (named.contains(tag)) continue;
    return bad_input(c.where() + "#" + e + "/leak_by_tag/" + tag, "the program has no such tag");
  }
  PS_TRY_VOID(check_hypotheses(c, *expect, e, mine.hypotheses));
  PS_TRY(const std::vector<Finding> findings, mask::check(expected, actual));
  const bool quiet = std::all_of(findings.begin(), findings.end(),
                                 [](const Finding& f) { return f.id == "MK001"; });
  if (quiet != (mine.leak.count + mine.hidden.count == 0)) {
    return machine_error(c.where() + "#" + at, "findings and counts disagree");
  }
  return {};
}

}  // namespace

Result<std::string> verify_masks_case(const std::filesystem::path& dir) {
  const std::string where = (dir / "case.json").string();
  PS_TRY(const std::string text, read_text(dir / "case.json"));
  PS_TRY(Json json, parse_json(text, where, {128, 1 << 24}));
  PS_TRY(SafetensorsFile file, SafetensorsFile::open(dir / "data.safetensors"));
  Case c(where, std::move(json), std::move(file));

  PS_TRY(const Json* program, c.field(c.json(), "program", ""));
  PS_TRY(Program parsed, mask::parse_program(*program, where, "/program"));
  constexpr std::int64_t kMostCells = std::int64_t{1} << 28;
  if (count_of({parsed.dims.B, parsed.dims.H, parsed.dims.Q, 1}) > kMostCells ||
      parsed.dims.B * parsed.dims.H * parsed.dims.Q >
          kMostCells / std::max<std::int64_t>(1, parsed.dims.KV)) {
    return bad_input(where + "#/program", "too large for a stored case", "2^28 cells",
                     mask::to_string(parsed.dims));
  }
  PS_TRY(const Expected expected, Expected::of(std::move(parsed)));
  const Mask& m = expected.mask();
  const Program& p = expected.program();
  PS_TRY_VOID(check_bits(c, "mask/bits", m));

  PS_TRY(const Json* block, c.field(c.json(), "block", ""));
  if (!block->is(Kind::kArray) || block->items.size() != 2) {
    return bad_input(where + "#/block", "not a tile", "[bq, bk]", block->brief());
  }
  PS_TRY(const std::int64_t bq, c.integer(block->items[0], "/block/0"));
  PS_TRY(const std::int64_t bk, c.integer(block->items[1], "/block/1"));
  if (bq > kMostCells || bk > kMostCells) {
    return bad_input(where + "#/block", "too large", "at most 2^28", block->brief());
  }
  PS_TRY(const std::string decided, check_evaluators(c, p, m, bq, bk));
  PS_TRY_VOID(check_blocks(c, m, bq, bk));

  const Json& j = c.json();
  const std::int64_t allowed = m.count(), rows = p.dims.B * p.dims.H * p.dims.Q;
  PS_TRY_VOID(c.expect(j, "allowed", "", std::to_string(allowed)));
  PS_TRY_VOID(c.expect(j, "fully_masked_rows", "", std::to_string(m.empty_rows())));
  PS_TRY_VOID(c.expect(j, "first_fully_masked", "", text_of(m.first_empty_row())));
  PS_TRY_VOID(c.expect(j, "never_attended_keys", "", std::to_string(never_attended(m))));
  const double cells = static_cast<double>(rows) * static_cast<double>(p.dims.KV);
  PS_TRY_VOID(c.expect_number("density", cells > 0 ? static_cast<double>(allowed) / cells : 0.0));
  PS_TRY_VOID(c.expect(j, "row_policy", "", "\"zero\""));
  PS_TRY_VOID(check_attention(c, m));

  PS_TRY(const Json* variants, c.field(j, "variants", ""));
  for (std::size_t n = 0; n < variants->items.size(); ++n) {
    PS_TRY_VOID(check_variant(c, expected, *program, variants->items[n], n));
  }
  PS_TRY(const std::vector<Finding> own, mask::check(expected, m));
  if (own.size() != (m.empty_rows() > 0 ? 1U : 0U)) {
    return machine_error(where, "the program differs from itself");
  }
  PS_TRY_VOID(c.nothing_left());
  return mask::to_string(p.dims) + ", " + std::to_string(allowed) + " pairs allowed, " + decided +
         " tiles decided by intervals, block tables, outputs, " +
         std::to_string(variants->items.size()) + " variants";
}

}  // namespace ps
