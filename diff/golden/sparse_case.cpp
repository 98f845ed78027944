#include "diff/golden/sparse_case.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "diff/compare/closeness.h"
#include "diff/golden/sparse_candidates.h"
#include "diff/golden/sparse_inputs.h"
#include "diff/sparse/case.h"
#include "diff/sparse/lists.h"
#include "diff/sparse/masks.h"
#include "diff/sparse/metrics.h"

namespace ps {

namespace {

// Of a tensor's scale. Measured against the stored ones: at most 3e-15.
constexpr double kOfScale = 1e-12;
// Cell by cell, for probabilities: they are sums of positive terms, so each digit is good however
// small the number. Measured: at most 2e-14.
constexpr double kOfCell = 1e-11;

std::string number_text(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", x);
  return text;
}

class Verifier {
 public:
  Verifier(SparseCase golden, SparseReference& reference)
      : golden_(std::move(golden)), config_(golden_.config), reference_(reference) {}

  Result<std::string> run() {
    PS_TRY_VOID(read_mask());
    PS_TRY_VOID(check_header());
    for (std::int64_t l = 0; l < config_.layers; ++l) PS_TRY_VOID(check_layer(l));
    for (std::size_t s = 0; s < golden_.decode.size(); ++s) PS_TRY_VOID(check_decode(s));
    PS_TRY_VOID(check_margin());
    for (const char* name : {"q", "k", "v", "sketch", "gate_wq", "gate_wk"}) seen_.insert(name);
    for (const SafetensorsFile& file : golden_.files) {
      for (const auto& entry : file.entries()) {
        if (!seen_.contains(entry.name)) {
          return bad_input(entry.name, "is stored, and nothing checks it");
        }
      }
    }
    return std::to_string(config_.layers) + " layers, " + std::to_string(golden_.decode.size()) +
           " decode steps, " + std::to_string(gradients_) + " gradients, " +
           std::to_string(candidates_) + " candidates; lists equal, worst " +
           number_text(worst_).substr(0, 4) +
           number_text(worst_).substr(
               std::min(number_text(worst_).size(), number_text(worst_).find('e'))) +
           " of a tensor's scale";
  }

 private:
  Result<void> read_mask() {
    const TensorView* bits = stored("token_mask_in_bits");
    if (bits == nullptr) return bad_input(golden_.where, "has no tensor token_mask_in_bits");
    PS_TRY(mask_, pair_mask_of_bits(*bits, config_.batch, config_.heads, config_.length,
                                    "token_mask_in_bits"));
    blocks_ = block_any(mask_, config_.block);
    shared_ = any_head(blocks_);
    return {};
  }

  // What the header says about masks and blocks against the mask itself.
  Result<void> check_header() {
    const Json* blocks = golden_.json.find("num_blocks");
    if (blocks == nullptr || blocks->integer != shared_.keys) {
      return bad_input("num_blocks", "another number", blocks == nullptr ? "" : blocks->brief(),
                       std::to_string(shared_.keys));
    }
    PS_TRY(PairMask plain, pair_mask(config_, std::nullopt, config_.length, config_.length, ""));
    const Json* starts = golden_.json.find("config")->find("starts");
    if (starts != nullptr) {
      if (static_cast<std::int64_t>(starts->items.size()) != config_.batch) {
        return bad_input("config/starts", "not one a batch entry");
      }
      for (std::int64_t b = 0; b < config_.batch; ++b) {
        for (std::int64_t i = 0; i < config_.length; ++i) {
          const std::int64_t start = starts->items[static_cast<std::size_t>(b)].integer;
          auto* row = plain.cells.data() + plain.row(b, 0, i);
          std::fill(row, row + std::clamp<std::int64_t>(start, 0, config_.length), 0);
        }
      }
    }
    bool same_heads = true, same_as_plain = true;
    for (std::int64_t b = 0; b < config_.batch; ++b) {
      for (std::int64_t h = 0; h < config_.heads; ++h) {
        for (std::int64_t i = 0; i < config_.length; ++i) {
          const auto* row = mask_.cells.data() + mask_.row(b, h, i);
          const auto* first = mask_.cells.data() + mask_.row(b, 0, i);
          const auto* want = plain.cells.data() + plain.row(b, 0, i);
          same_heads = same_heads && std::equal(row, row + mask_.keys, first);
          same_as_plain = same_as_plain && std::equal(row, row + mask_.keys, want);
        }
      }
    }
    const Json* shape = golden_.json.find("mask_shape");
    const std::string said = shape == nullptr ? "" : shape->text;
    const std::string is = !same_heads ? "B,H,Nq,Nk" : starts != nullptr ? "B,Nq,Nk" : "none";
    if (said != is) return bad_input("mask_shape", "is another", said, is);
    if (same_heads && !same_as_plain) {
      return bad_input("token_mask_in_bits", "is not what causality and config/starts say");
    }
    const Json* decode = golden_.json.find("config")->find("decode");
    if (decode != nullptr && decode->integer != static_cast<std::int64_t>(golden_.decode.size())) {
      return bad_input("config/decode", "another number of steps", decode->brief(),
                       std::to_string(golden_.decode.size()));
    }
    return {};
  }

  const TensorView* stored(const std::string& name) {
    const TensorView* found = golden_.find(name);
    if (found != nullptr) seen_.insert(name);
    return found;
  }

  // `cells`: compared cell by cell; else by the tensor's scale.
  Result<void> same(const std::string& name, const TensorView& mine, bool cells = false) {
    const TensorView* expected = stored(name);
    if (expected == nullptr) return bad_input(name, "is not stored");
    if (expected->dtype != DType::kF64) {
      return bad_input(name, "stored in another type", "F64",
                       std::string(safetensors_name(expected->dtype)));
    }
    const Closeness close = compare(mine, *expected);
    if (!close.same_shape) {
      return bad_input(name, "another shape", to_string(expected->shape), to_string(mine.shape));
    }
    std::int64_t wrong = close.within(kOfScale) ? -1 : close.worst;
    const auto a = mine.as<double>(), e = expected->as<double>();
    for (std::size_t i = 0; i < a.size() && wrong < 0; ++i) {
      // A zero is exact: nothing was added up there.
      const bool zero = e[i] == 0 && name.find("/grad/") != std::string::npos;
      if ((cells && std::fabs(a[i] - e[i]) > kOfCell * std::fabs(e[i])) || (zero && a[i] != 0)) {
        wrong = static_cast<std::int64_t>(i);
      }
    }
    if (wrong >= 0) {
      return bad_input(name, "differs", "within 1e-12", cell_text(mine, *expected, wrong));
    }
    if (close.scale > 0) worst_ = std::max(worst_, close.max_abs / close.scale);
    return {};
  }

  Result<void> same_bytes(const std::string& name, const Shape& shape,
                          std::span<const std::uint8_t> mine) {
    const TensorView* expected = stored(name);
    if (expected == nullptr) return bad_input(name, "is not stored");
    if (expected->shape != shape || expected->dtype != DType::kU8) {
      return bad_input(name, "another shape or type", to_string(shape), to_string(expected->shape));
    }
    const auto theirs = expected->as<std::uint8_t>();
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (mine[i] == theirs[i]) continue;
      return bad_input(
          name, "differs", std::to_string(theirs[i]),
          std::to_string(mine[i]) + " at " + index_text(shape, static_cast<std::int64_t>(i)));
    }
    return {};
  }

  Result<void> same_number(const Json& object, const char* name, double mine,
                           const std::string& where) {
    const Json* said = object.find(name);
    const double tolerance = 1e-12 * std::max(std::fabs(mine), 1e-3);
    if (said != nullptr && std::fabs(said->number - mine) <= tolerance) return {};
    return bad_input(where + "/" + name, "differs", said == nullptr ? "nothing" : said->brief(),
                     number_text(mine));
  }

  Result<void> check_layer(std::int64_t l) {
    PS_TRY(const Tensor q, golden_.tokens("q", l, 0, config_.length));
    PS_TRY(const Tensor k, golden_.tokens("k", l, 0, config_.length));
    PS_TRY(const Tensor v, golden_.tokens("v", l, 0, config_.length));
    SparseInputs inputs{q.view(), k.view(), v.view(), mask_.view()};
    PS_TRY(const SparseLayer mine, reference_.prefill(l, inputs));
    if (mine.lists.empty()) return check_dense(l, inputs, mine);
    const bool walk = config_.selector == SparseSelector::kWalk;
    PS_TRY_VOID(check_lists(l, mine, walk ? shared_ : blocks_));
    PS_TRY_VOID(same(layer_name(l, "scores"), mine.scores.view(), !walk));
    if (walk) {
      PS_TRY_VOID(same(layer_name(l, "transition"), mine.transition.view(), true));
      PS_TRY_VOID(same(layer_name(l, "walk"), mine.walk.view(), true));
    }
    PS_TRY_VOID(same(layer_name(l, "out"), mine.out.view()));
    const PairMask chosen = inside(mask_, mine.lists, config_.block);
    PS_TRY_VOID(check_chosen(l, chosen));
    PS_TRY(const SparseAttended dense, reference_.attend(inputs, chosen.view()));
    PS_TRY_VOID(same(layer_name(l, "dense_out"), dense.out.view()));
    const Json* metrics = golden_.json.find("metrics");
    if (metrics == nullptr || static_cast<std::int64_t>(metrics->items.size()) != config_.layers) {
      return bad_input("metrics", "not one a layer");
    }
    PS_TRY_VOID(check_metrics(l, metrics->items[static_cast<std::size_t>(l)],
                              sparse_metrics(mask_, chosen, mine.lists, walk ? shared_ : blocks_,
                                             dense.mass, mine.out, dense.out)));
    if (golden_.wants_gradients) PS_TRY_VOID(check_gradients(l, inputs, chosen));
    if (l > 0) return {};
    // Candidates are the first layer's, batch entry 0, head 0.
    PairMask first(1, 1, shared_.queries, shared_.keys);
    const PairMask& allowed = walk ? shared_ : blocks_;
    std::copy_n(allowed.cells.begin(), first.cells.size(), first.cells.begin());
    BlockLists lists(1, 1, mine.lists.rows);
    std::copy_n(mine.lists.lists.begin(), lists.lists.size(), lists.lists.begin());
    PS_TRY(candidates_,
           verify_candidates({golden_, inputs, first, lists, mine.transition, mine.out}, seen_));
    return {};
  }

  // A layer before config/skip: no selection, and the same output as dense attention.
  Result<void> check_dense(std::int64_t l, const SparseInputs& inputs, const SparseLayer& mine) {
    if (!golden_.selected[static_cast<std::size_t>(l)].empty()) {
      return bad_input("selected/" + std::to_string(l), "lists of a layer before config/skip");
    }
    PS_TRY_VOID(same(layer_name(l, "out"), mine.out.view()));
    if (golden_.find(layer_name(l, "dense_out")) == nullptr) return {};
    PS_TRY(const SparseAttended dense, reference_.attend(inputs, mask_.view()));
    return same(layer_name(l, "dense_out"), dense.out.view());
  }

  Result<void> check_lists(std::int64_t l, const SparseLayer& mine, const PairMask& allowed) {
    const std::int64_t n = allowed.keys;
    const bool walk = allowed.heads == 1 && config_.selector == SparseSelector::kWalk;
    const Shape shape = {walk ? config_.batch : config_.batch * config_.heads, n, n};
    PS_TRY_VOID(same_bytes(layer_name(l, "block_allowed"), shape, allowed.cells));
    PS_TRY_VOID(same_bytes(layer_name(l, "block_allowed"), shape,
                           mine.block_allowed.view().as<std::uint8_t>()));
    const BlockLists& stored = golden_.selected[static_cast<std::size_t>(l)];
    std::vector<std::uint8_t> dense(static_cast<std::size_t>(config_.batch * config_.heads * n * n),
                                    0);
    for (std::int64_t b = 0; b < config_.batch; ++b) {
      for (std::int64_t h = 0; h < config_.heads; ++h) {
        for (std::int64_t i = 0; i < n; ++i) {
          const auto& list = mine.lists.at(b, h, i);
          if (stored.empty() || list != stored.at(b, h, i)) {
            return bad_input("selected/" + std::to_string(l) + "/" + std::to_string(b) + "/" +
                                 std::to_string(h) + "/" + std::to_string(i),
                             "another list");
          }
          for (const std::int32_t j : list) {
            dense[static_cast<std::size_t>(((b * config_.heads + h) * n + i) * n + j)] = 1;
          }
          note_margin(mine, allowed, b, h, i);
        }
      }
    }
    PS_TRY_VOID(
        same_bytes(layer_name(l, "block_mask"), {config_.batch, config_.heads, n, n}, dense));
    // The reference obeys its own rules; a threshold's lost rows are the spec's own example.
    const ListFaults faults = list_faults(config_, mine.lists, allowed, 0);
    if (faults.duplicates.count + faults.unsorted.count + faults.out_of_range.count +
            faults.future.count + faults.disallowed.count >
        0) {
      return machine_error("sparse reference", "selected what it must not");
    }
    return {};
  }

  void note_margin(const SparseLayer& mine, const PairMask& allowed, std::int64_t b, std::int64_t h,
                   std::int64_t i) {
    const std::int64_t n = allowed.keys;
    const std::int64_t heads = config_.selector == SparseSelector::kWalk ? 1 : config_.heads;
    if (heads == 1 && h > 0) return;
    const auto row = static_cast<std::size_t>(((b * heads + h) * allowed.queries + i) * n);
    if (config_.selector == SparseSelector::kWalk) {
      const double* scores = mine.walk.view().as<double>().data() + row;
      const auto margin = row_margin(config_, scores, mine.lists.at(b, h, i), allowed, b, h, i, 0);
      if (margin) margin_ = std::min(margin_, *margin);
      return;
    }
    for (std::int64_t j = 0; j < n; ++j) {
      if (!allowed.at(b, h, i, j) || config_.gate != GateRule::kThreshold) continue;
      const double score = mine.scores.view().as<double>()[row + static_cast<std::size_t>(j)];
      margin_ = std::min(margin_, std::fabs(score - config_.threshold) / config_.threshold);
    }
  }

  Result<void> check_margin() {
    const Json* said = golden_.json.find("min_selection_margin");
    if (said == nullptr) return bad_input("min_selection_margin", "is not there");
    const bool none = margin_ == HUGE_VAL;
    if (none && said->is(Json::Kind::kNull)) return {};
    if (!none && std::fabs(said->number - margin_) <= 1e-11 && !said->is(Json::Kind::kNull)) {
      return {};
    }
    return bad_input("min_selection_margin", "differs", said->brief(),
                     none ? "null" : number_text(margin_));
  }

  Result<void> check_chosen(std::int64_t l, const PairMask& chosen) {
    const std::string name = layer_name(l, "token_mask_bits");
    const TensorView* bits = stored(name);
    if (bits == nullptr) return bad_input(name, "is not stored");
    PS_TRY(const PairMask theirs,
           pair_mask_of_bits(*bits, config_.batch, config_.heads, config_.length, name));
    if (theirs.cells == chosen.cells) return {};
    return bad_input(name, "is not the token mask inside the selected blocks");
  }

  Result<void> check_metrics(std::int64_t l, const Json& said, const SparseMetrics& m) {
    const std::string where = "metrics/" + std::to_string(l);
    const std::pair<const char*, double> numbers[] = {
        {"layer", static_cast<double>(l)},
        {"density_token", m.density_token},
        {"density_block", m.density_block},
        {"recall_mean", m.recall_mean},
        {"recall_min", m.recall_min},
        {"rel_l2", m.rel_l2},
        {"rows_without_key", static_cast<double>(m.rows_without_key)},
        {"fully_masked_rows_dense", static_cast<double>(m.fully_masked_rows_dense)}};
    for (const auto& [name, mine] : numbers) PS_TRY_VOID(same_number(said, name, mine, where));
    if (said.items.size() == std::size(numbers)) return {};
    return bad_input(where, "holds numbers that nothing checks");
  }

  Result<void> check_gradients(std::int64_t l, SparseInputs inputs, const PairMask& chosen) {
    const TensorView* g = stored(layer_name(l, "grad/g"));
    if (g == nullptr) return bad_input(layer_name(l, "grad/g"), "is not stored");
    inputs.mask = chosen.view();
    PS_TRY(const SparseGradients mine, reference_.gradients(inputs, *g));
    PS_TRY_VOID(same(layer_name(l, "grad/dq"), mine.dq.view()));
    PS_TRY_VOID(same(layer_name(l, "grad/dk"), mine.dk.view()));
    PS_TRY_VOID(same(layer_name(l, "grad/dv"), mine.dv.view()));
    gradients_ += 3;
    return {};
  }

  Result<void> check_decode(std::size_t s) {
    const SparseDecodeStep& step = golden_.decode[s];
    for (std::int64_t l = 0; l < config_.layers; ++l) {
      const std::int64_t at = step.position;
      PS_TRY(const Tensor q, golden_.tokens("q", l, at, at + 1));
      PS_TRY(const Tensor k, golden_.tokens("k", l, at, at + 1));
      PS_TRY(const Tensor v, golden_.tokens("v", l, at, at + 1));
      PS_TRY(const SparseLayer mine,
             reference_.decode(l, {q.view(), k.view(), v.view(), std::nullopt}));
      const std::string name = "decode" + std::to_string(s) + "/";
      const Shape one = {config_.batch, config_.blocks(at + 1)};
      PS_TRY_VOID(same(name + layer_name(l, "out"), mine.out.view()));
      const BlockLists& said = step.selected[static_cast<std::size_t>(l)];
      if (mine.lists.empty() && said.empty()) continue;
      if (config_.selector != SparseSelector::kWalk) {
        return bad_input("decode", "only walks can be verified step by step");
      }
      PS_TRY_VOID(
          same(name + layer_name(l, "walk_row"), {DType::kF64, one, mine.walk.view().bytes}, true));
      for (std::int64_t b = 0; b < config_.batch; ++b) {
        if (said.empty() || said.at(b, 0, 0) != mine.lists.at(b, 0, 0)) {
          return bad_input("decode/" + std::to_string(s) + "/selected/" + std::to_string(l),
                           "another list");
        }
        PairMask allowed(config_.batch, 1, 1, one[1]);
        const auto cells = mine.block_allowed.view().as<std::uint8_t>();
        std::copy(cells.begin(), cells.end(), allowed.cells.begin());
        const double* scores = mine.walk.view().as<double>().data() + b * one[1];
        const auto margin =
            row_margin(config_, scores, said.at(b, 0, 0), allowed, b, 0, 0, step.block);
        if (margin) margin_ = std::min(margin_, *margin);
      }
    }
    return {};
  }

  SparseCase golden_;
  const SparseConfig& config_;
  SparseReference& reference_;
  PairMask mask_, blocks_, shared_;
  std::set<std::string> seen_;
  double margin_ = HUGE_VAL, worst_ = 0;
  std::int64_t gradients_ = 0, candidates_ = 0;
};

}  // namespace

Result<std::string> verify_sparse_case(const std::filesystem::path& dir) {
  PS_TRY(SparseCase golden, open_sparse_case({dir}));
  PS_TRY_VOID(same_inputs(golden, dir / "inputs.json"));
  PS_TRY(const std::unique_ptr<SparseReference> reference,
         open_sparse_reference(golden.config, golden.weights));
  Verifier verifier(std::move(golden), *reference);
  return verifier.run();
}

}  // namespace ps
