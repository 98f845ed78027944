#include "diff/sparse/check.h"

#include <algorithm>
#include <cmath>

#include "diff/sparse/lists.h"

namespace ps {

namespace {

PairMask for_heads(const PairMask& mask, std::int64_t heads) {
  if (mask.heads == heads) return mask;
  PairMask out(mask.batch, heads, mask.queries, mask.keys);
  for (std::int64_t b = 0; b < out.batch; ++b) {
    const std::uint8_t* from = mask.cells.data() + mask.row(b, 0, 0);
    for (std::int64_t h = 0; h < heads; ++h) {
      std::copy(from, from + mask.queries * mask.keys, out.cells.data() + out.row(b, h, 0));
    }
  }
  return out;
}

// M, from the bits of section 10 or from a mask tensor in any form; both must say the same.
Result<PairMask> mask_of(const SparseCase& c, SparseFindings& findings) {
  const SparseConfig& s = c.config;
  std::optional<PairMask> from_bits;
  if (const TensorView* bits = c.find("token_mask_in_bits"); bits != nullptr) {
    PS_TRY(from_bits,
           pair_mask_of_bits(*bits, s.batch, s.heads, s.length, c.where + ": token_mask_in_bits"));
  }
  std::optional<TensorView> given;
  if (const TensorView* mask = c.find("token_mask"); mask != nullptr) given = *mask;
  if (!given && from_bits) return *from_bits;
  PS_TRY(PairMask out, pair_mask(s, given, s.length, s.length, c.where + ": token_mask"));
  if (!from_bits) return out;
  const PairMask wide = for_heads(out, s.heads);
  for (std::size_t i = 0; i < wide.cells.size(); ++i) {
    if ((wide.cells[i] != 0) == (from_bits->cells[i] != 0)) continue;
    const auto at = static_cast<std::int64_t>(i);
    const std::int64_t head = at / (s.length * s.length);
    findings.add(
        "SP023", "token_mask",
        {head / s.heads, head % s.heads, -1, at / s.length % s.length, at % s.length / s.block},
        "the mask tensor and the mask bits allow different pairs");
    break;
  }
  return *from_bits;
}

std::string metrics_json(const SparseMetrics& m) {
  std::string out = "{";
  const std::pair<const char*, double> numbers[] = {
      {"density_token", m.density_token},
      {"density_block", m.density_block},
      {"recall_mean", m.recall_mean},
      {"recall_min", m.recall_min},
      {"recall_p5", m.recall_p5},
      {"rel_l2", m.rel_l2},
      {"cosine_min", m.cosine_min},
      {"rows_without_key", static_cast<double>(m.rows_without_key)},
      {"fully_masked_rows_dense", static_cast<double>(m.fully_masked_rows_dense)}};
  for (const auto& [name, value] : numbers) {
    out += (out.size() > 1 ? ", \"" : "\"") + std::string(name) + "\": " + json_number(value);
  }
  return out + "}";
}

class Check {
 public:
  Check(const SparseCase& subject, SparseReference& reference, const SparseCheckOptions& options)
      : subject_(subject), config_(subject.config), reference_(reference), options_(options) {}

  Result<Report> run() {
    PS_TRY(mask_, mask_of(subject_, findings_));
    const bool walk = config_.selector == SparseSelector::kWalk;
    const PairMask blocks = block_any(mask_, config_.block);
    allowed_ = walk ? any_head(blocks) : for_heads(blocks, config_.heads);
    if (options_.candidate) {
      PS_TRY_VOID(candidate());
      return report();
    }
    for (std::int64_t l = 0; l < config_.layers; ++l) PS_TRY_VOID(layer(l));
    PS_TRY_VOID(check_decode(subject_, mask_, reference_, findings_));
    return report();
  }

 private:
  Result<void> layer(std::int64_t l) {
    PS_TRY(const Tensor q, subject_.tokens("q", l, 0, config_.length));
    PS_TRY(const Tensor k, subject_.tokens("k", l, 0, config_.length));
    PS_TRY(const Tensor v, subject_.tokens("v", l, 0, config_.length));
    const SparseInputs inputs{q.view(), k.view(), v.view(), mask_.view()};
    PS_TRY(const SparseLayer truth, reference_.prefill(l, inputs));
    const BlockLists& lists = subject_.selected[static_cast<std::size_t>(l)];
    const PairMask chosen = lists.empty() ? mask_ : inside(mask_, lists, config_.block);
    const SparseLayerCheck c{subject_, l,      inputs, mask_,      allowed_,
                             lists,    chosen, truth,  reference_, findings_};
    if (lists.empty() && !truth.lists.empty()) {
      blind_.push_back({"selection", "layer " + std::to_string(l) + " has no lists"});
      findings_.unnamed("selection", c.point("selected"), {},
                        "this layer selects, and the case holds no lists of it");
      return {};
    }
    if (!lists.empty() && truth.lists.empty()) {
      findings_.unnamed("selection", c.point("selected"), {},
                        "a layer before config/skip is dense and returns no selection");
      return {};
    }
    PairMask within = for_heads(mask_, chosen.heads);
    SparseInputs dense_inputs = inputs;
    dense_inputs.mask = within.view();
    PS_TRY(const SparseAttended dense, reference_.attend(dense_inputs, chosen.view()));
    if (!lists.empty()) {
      check_layer_lists(c);
      check_state(c);
      check_selection(c);
    }
    PS_TRY_VOID(check_output(c, dense));
    PS_TRY_VOID(check_dense(c, dense));
    PS_TRY_VOID(check_gradients(c));
    if (subject_.find(c.point("out")) == nullptr) {
      blind_.push_back({"output", "layer " + std::to_string(l) + " has no out"});
    }
    if (!lists.empty()) PS_TRY_VOID(measure(c, dense));
    return {};
  }

  // dense_out, where somebody stored it, is attention under M.
  Result<void> check_dense(const SparseLayerCheck& c, const SparseAttended& dense) {
    const std::string name = c.point("dense_out");
    const TensorView* stored = subject_.find(name);
    if (stored == nullptr) return {};
    if (stored->shape != dense.out.shape()) {
      findings_.add("SP024", name, {}, "another shape: " + to_string(stored->shape));
      return {};
    }
    std::vector<double> actual(static_cast<std::size_t>(stored->count()));
    to_doubles(*stored, actual);
    const auto exact = dense.out.view().as<double>();
    const double tolerance = rounding_of(stored->dtype, static_cast<double>(config_.length));
    double scale = 0;
    for (const double x : exact) scale = std::max(scale, std::fabs(x));
    std::vector<OutputRow> wrong;
    const std::int64_t dim = config_.head_dim;
    for (std::int64_t row = 0; row < stored->count() / dim; ++row) {
      bool good = true;
      for (std::int64_t d = row * dim; d < (row + 1) * dim; ++d) {
        const auto cell = static_cast<std::size_t>(d);
        good = good && std::fabs(actual[cell] - exact[cell]) <= tolerance * scale;
      }
      if (good) continue;
      const std::int64_t head = row / config_.length;
      wrong.push_back({head / config_.heads, head % config_.heads, row % config_.length,
                       actual.data() + row * dim, exact.data() + row * dim});
    }
    if (wrong.empty()) return {};
    const BlockLists none;
    const SparseLayerCheck as_dense{subject_, c.layer, c.inputs, mask_,      allowed_,
                                    none,     mask_,   c.truth,  reference_, findings_};
    explain_rows(as_dense, wrong, name, std::max(1e-9, 64 * tolerance));
    return {};
  }

  Result<void> measure(const SparseLayerCheck& c, const SparseAttended& dense) {
    SparseInputs inputs = c.inputs;
    inputs.mask = c.chosen.view();
    Tensor sparse;
    if (c.lists.lists == c.truth.lists.lists) {
      sparse = c.truth.out;
    } else {
      PS_TRY(SparseAttended own, reference_.attend(inputs, c.chosen.view()));
      sparse = std::move(own.out);
    }
    const SparseMetrics m =
        sparse_metrics(mask_, c.chosen, c.lists, allowed_, dense.mass, sparse, dense.out);
    metrics_.push_back(metrics_json(m));
    const std::string point = c.point("selected");
    if (m.recall_min < options_.min_recall) {
      findings_.add("SP022", point, {},
                    "recall falls to " + json_number(m.recall_min) + ", asked for " +
                        json_number(options_.min_recall));
    }
    PS_TRY(const PairMask plain,
           pair_mask(config_, std::nullopt, config_.length, config_.length, ""));
    const bool unpadded = config_.causal && mask_.count() == plain.count() * mask_.heads;
    if (!unpadded || config_.selector != SparseSelector::kWalk) return {};
    if (config_.sinks + config_.locals > config_.tau) return {};
    const double expected = closed_form_density(config_.tau, c.allowed.keys);
    if (std::fabs(m.density_block - expected) <= 0.01 * expected) return {};
    findings_.add("SP022", point, {},
                  "density " + json_number(m.density_block) + " is far from " +
                      json_number(expected) + ", what tau of " + std::to_string(c.allowed.keys) +
                      " causal blocks gives");
    return {};
  }

  // Lists stored as a candidate's: layer 0, batch entry 0, head 0.
  Result<void> candidate() {
    PS_TRY(const BlockLists mine, candidate_lists(subject_, *options_.candidate));
    PairMask allowed(1, 1, allowed_.queries, allowed_.keys);
    std::copy_n(allowed_.cells.begin(), allowed.cells.size(), allowed.cells.begin());
    PairMask mask(1, 1, mask_.queries, mask_.keys);
    std::copy_n(mask_.cells.begin(), mask.cells.size(), mask.cells.begin());
    const std::string point = "candidates/" + *options_.candidate;
    check_lists(config_, mine, allowed, 0, point, findings_);
    check_lost_queries(mask, inside(mask, mine, config_.block), point, findings_);
    return {};
  }

  Report report() {
    Report out;
    out.findings = findings_.take();
    std::stable_sort(out.findings.begin(), out.findings.end(),
                     [](const Finding& a, const Finding& b) { return a.severity < b.severity; });
    const auto errors =
        std::count_if(out.findings.begin(), out.findings.end(),
                      [](const Finding& f) { return f.severity == Severity::kError; });
    out.verdict = errors > 0 ? Verdict::kDiverged : Verdict::kEquivalent;
    for (const Finding& f : out.findings) {
      if (f.severity != Severity::kError) continue;
      out.first_divergence = FirstDivergence{f.step, 0, f.point, f.where};
      break;
    }
    out.blind_spots = std::move(blind_);
    const Json* config = subject_.json.find("config");
    out.inputs.emplace_back("case", json_string(subject_.where));
    if (config != nullptr) out.inputs.emplace_back("config", config->dump());
    std::string layers = "[";
    for (const std::string& m : metrics_) layers += (layers.size() > 1 ? ", " : "") + m;
    out.inputs.emplace_back("metrics", layers + "]");
    return out;
  }

  const SparseCase& subject_;
  const SparseConfig& config_;
  SparseReference& reference_;
  const SparseCheckOptions& options_;
  SparseFindings findings_;
  PairMask mask_, allowed_;
  std::vector<std::string> metrics_;
  std::vector<BlindSpot> blind_;
};

}  // namespace

Result<Report> check_sparse_case(const SparseCase& subject, SparseReference& reference,
                                 const SparseCheckOptions& options) {
  return Check(subject, reference, options).run();
}

Result<PairMask> sparse_case_mask(const SparseCase& subject) {
  SparseFindings ignored;
  return mask_of(subject, ignored);
}

Result<BlockLists> candidate_lists(const SparseCase& subject, const std::string& wanted) {
  const Json* all = subject.json.find("candidates");
  std::string known;
  for (std::size_t i = 0; all != nullptr && i < all->items.size(); ++i) {
    const Json* name = all->items[i].find("name");
    const Json* lists = all->items[i].find("lists");
    if (name == nullptr || lists == nullptr) continue;
    known += (known.empty() ? "" : ", ") + name->text;
    if (name->text != wanted) continue;
    Json nested;
    nested.kind = Json::Kind::kArray;
    nested.items = {nested};
    nested.items[0].items = {*lists};
    const SparseConfig& c = subject.config;
    return lists_of_json(nested, subject.where + "/candidates", 1, 1, c.blocks(c.length));
  }
  return bad_input("--candidate", "the case has no such candidate", known, wanted);
}

}  // namespace ps
