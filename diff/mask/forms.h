// The forms in which programs pass masks to each other (spec masks.md 4), and what is wrong with a
// tensor in one of them: NaN, +inf, values that are a bias, a wrong dtype, an accidental broadcast.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/finding.h"
#include "core/tensor.h"
#include "diff/mask/mask.h"
#include "diff/mask/tiles.h"

namespace ps::mask {

enum class Form : std::uint8_t {
  kAuto,      // bool and integers: attend; floating: additive
  kAttend,    // R1: true = attend
  kMasked,    // R2: true = masked
  kAdditive,  // R3, R4: 0 = attend, -inf or the dtype's lowest = masked
};
std::optional<Form> form_from(std::string_view name);  // "attend", "masked", "additive", "auto"

struct Reading {
  Mask mask;
  std::vector<Finding> findings;  // MK020 to MK028
};

struct ReadOptions {
  Form form = Form::kAuto;
  std::optional<DType> cast;  // additive values are converted to it first, as a model would (MK023)
};

// Shapes [B|1,H|1,Q|1,KV|1], [B|1,Q|1,KV|1], [Q,KV] and, where that is not [Q,KV], [B,KV]
// (padding). A 1-D uint8 tensor of the right length holds bits, as the golden cases do. `expected`
// is what broadcasting along an axis is judged by (MK026). Without `dims` the tensor's own shape
// counts.
Result<Reading> read_tensor(const TensorView& tensor, const std::optional<Dims>& dims,
                            const Mask* expected, const ReadOptions& options);

Tensor to_bool(const Mask& mask, bool true_is_masked);        // R1, R2: [B,H,Q,KV]
Tensor to_additive(const Mask& mask, DType dtype, bool inf);  // R3, R4
double lowest(DType dtype);                                   // finfo.min

// R7. Row r = (b*H + h)*Q + i has the runs begin[r] .. begin[r+1] of [lo, hi) columns.
struct RowRuns {
  Dims dims;
  std::vector<std::int64_t> begin;
  std::vector<std::pair<std::int64_t, std::int64_t>> runs;
};
RowRuns to_row_runs(const Mask& mask);
Result<Mask> from_row_runs(const RowRuns& rows);  // unsorted or touching runs are an Error

// R5: keys [start, start + length) of every batch row; `starts` may be empty (0).
Result<Program> from_lengths(const Dims& dims, const std::vector<std::int64_t>& lengths,
                             const std::vector<std::int64_t>& starts, bool causal);
// R5: cu_seqlens 0 = c[0] <= c[1] <= ...: packed segments on one sequence.
Result<Program> from_cu_seqlens(std::int64_t heads, const std::vector<std::int64_t>& cu,
                                bool causal);
// The lengths and starts of a mask that is a padding mask, or an Error that names the first cell
// that is not.
struct Lengths {
  std::vector<std::int64_t> starts, lengths;
};
Result<Lengths> to_lengths(const Mask& mask);

// R8.
enum class Alignment : std::uint8_t { kTopLeft, kBottomRight };
Program from_is_causal(const Dims& dims, Alignment alignment);

struct Difference {
  std::int64_t only_a = 0, only_b = 0;
  std::optional<CellIndex> first;  // of either kind
  bool equal() const { return only_a + only_b == 0; }
};
Difference difference(const Mask& a, const Mask& b);

// R6: lists against the mask they are for (MK030 to MK034).
std::vector<Finding> check_block_lists(const BlockLists& lists, const Mask& expected,
                                       EdgeRule rule = EdgeRule::kTorch);

}  // namespace ps::mask
