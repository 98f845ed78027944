// The verifier of block-sparse attention: SP001 to SP024 on a case, whoever made it.
//
// A kernel's fault and a selection's are told apart: outputs are compared with attention over the
// implementation's OWN lists, lists with the reference's; and every step of the selection with the
// same step from the implementation's own numbers before it, where it shows them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/sparse.h"
#include "diff/report/report.h"
#include "diff/sparse/case.h"
#include "diff/sparse/findings.h"
#include "diff/sparse/masks.h"
#include "diff/sparse/metrics.h"

namespace ps {

struct SparseCheckOptions {
  double min_recall = 0;                 // SP022 below it
  std::optional<std::string> candidate;  // judge these lists of the case instead of its own
};

Result<Report> check_sparse_case(const SparseCase& subject, SparseReference& reference,
                                 const SparseCheckOptions& options);

// The token mask of a case: causality and what stands in its tensors.
Result<PairMask> sparse_case_mask(const SparseCase& subject);
// The lists that a case stores under a name.
Result<BlockLists> candidate_lists(const SparseCase& subject, const std::string& name);

// ---- its parts, one file each -----------------------------------------------------------------

struct SparseLayerCheck {
  const SparseCase& subject;
  std::int64_t layer;
  const SparseInputs& inputs;  // of the prefill; mask = M
  const PairMask& mask;        // M
  const PairMask& allowed;     // blocks with an allowed pair: shared by heads for a walk
  const BlockLists& lists;     // the subject's; empty where the layer is dense
  const PairMask& chosen;      // M inside them; M where the layer is dense
  const SparseLayer& truth;
  SparseReference& reference;
  SparseFindings& findings;
  std::string point(const char* what) const { return layer_name(layer, what); }
};

// SP001 - SP008: lists, their dense form, and the token mask inside them. `first` is the query
// block of row 0.
void check_lists(const SparseConfig& config, const BlockLists& lists, const PairMask& allowed,
                 std::int64_t first, const std::string& point, SparseFindings& findings);
void check_layer_lists(const SparseLayerCheck& c);
// Rows that M gives a key and the lists do not.
void check_lost_queries(const PairMask& mask, const PairMask& chosen, const std::string& point,
                        SparseFindings& findings);
// SP013, SP015, SP016, SP018, SP020, SP023: block mask, scores, transition, walk.
void check_state(const SparseLayerCheck& c);
// Lists against scores: SP020, SP021, or a selection that nothing explains.
void check_selection(const SparseLayerCheck& c);
// SP008 - SP011, SP024: what the kernel attended.
Result<void> check_output(const SparseLayerCheck& c, const SparseAttended& dense);
// SP019.
Result<void> check_gradients(const SparseLayerCheck& c);
// All of it for the decode steps: SP001 - SP007, SP011, SP015, SP017.
Result<void> check_decode(const SparseCase& subject, const PairMask& mask,
                          SparseReference& reference, SparseFindings& findings);

// How far rounding may take a number stored in `dtype` from the exact one, relative to its scale.
double rounding_of(DType dtype, double terms);

// One row of outputs against what attention over given keys must yield.
struct OutputRow {
  std::int64_t b, h, i;
  const double* actual;
  const double* expected;
};
// Names what the wrong rows have in common; SP011 where nothing else explains them.
void explain_rows(const SparseLayerCheck& c, const std::vector<OutputRow>& wrong,
                  const std::string& point, double tolerance);

}  // namespace ps
