// Which masks there are to look at in a step of a trace (or for a mask program alone), by name, and
// expressions over them: "expected & ~actual", "layer7 ^ layer8", "causal & ~window(4)".
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/trace.h"
#include "diff/mask/mask.h"
#include "diff/mask/tiles.h"

namespace ps::view {

// Two masks of one plane and what tells them apart.
struct PlanePair {
  std::shared_ptr<const mask::Bands> expected, actual;  // either may be missing
  mask::Bands leak, hidden, errors;                     // empty where one is missing
  std::int64_t leaks = 0, hides = 0;
  std::int64_t rows = 0, columns = 0;
};
PlanePair pair_of(const mask::Mask* expected, const mask::Mask* actual, std::int64_t b,
                  std::int64_t h);

// Masks by name. Those of a trace are made when they are first asked for.
class MaskSet {
 public:
  // "mask" (model:mask), "layerN" (where layer N's probs are not zero), "expected" (what the config
  // and the step's inputs ask for); the last only with a config. Whatever the step did not capture
  // is not there.
  static MaskSet of_step(const TraceStep& step, const ModelConfig* config, std::int64_t past,
                         std::int64_t layer);
  // "expected" and, where there is one, "actual".
  static Result<MaskSet> of_program(mask::Program program, std::optional<mask::Mask> actual);

  std::vector<std::string> names() const;
  // Error: no such mask, or what the trace holds under its name is no mask.
  Result<std::shared_ptr<const mask::Mask>> get(const std::string& name);
  const mask::Program* program() const { return program_ ? &*program_ : nullptr; }
  std::optional<mask::Dims> dims() const;  // of the program, else of a captured mask
  void add(std::string name, mask::Mask mask);
  // The names above; the program's tags ("padding", "window") and defs ("$name"); and whatever the
  // text syntax of masks knows (causal, window(4)). ! and ~ are not, then & ^ | by strength.
  Result<mask::Mask> evaluate(const std::string& text);
  // What the layer really applies: its probs where they were captured, else model:mask.
  std::string actual_name(std::int64_t layer) const;

 private:
  Result<mask::Mask> make(const std::string& name) const;
  std::map<std::string, std::shared_ptr<const mask::Mask>> made_;
  std::map<std::string, TensorView> sources_;
  std::shared_ptr<const SafetensorsFile> keeps_;
  std::optional<mask::Program> program_;
};

// A stretch of an axis with a meaning, to be drawn beside it.
struct AxisBand {
  enum class Kind : std::uint8_t { kPrefix, kPadding, kPast, kNew, kSegment };
  Kind kind = Kind::kNew;
  std::int64_t begin = 0, end = 0;
  std::string label;
  bool operator==(const AxisBand&) const = default;
};
std::string_view to_string(AxisBand::Kind kind);
// Of the keys, in order, without gaps: prefix, padding, past, new; `batch` is the sample.
std::vector<AxisBand> key_bands(const StepInputs& inputs, std::int64_t prefix, std::int64_t past,
                                std::int64_t batch);
std::vector<AxisBand> query_bands(const StepInputs& inputs, std::int64_t past, std::int64_t batch);
// The segments that a program names, in storage coordinates of an axis of this size.
std::vector<AxisBand> segment_bands(const mask::Program& program, std::int64_t offset,
                                    std::int64_t size);

// A few lines for the tooltip of a cell: where it is, what expected and actual say, which clause
// decides and the smallest change that turns it over.
std::string cell_text(const PlanePair& pair, const mask::Program* program,
                      const mask::CellIndex& cell);

// Which tiles block lists call full and partial, as cells of the plane.
struct BlockLayer {
  mask::Bands full, partial;
  std::int64_t bq = 0, bk = 0;
};
BlockLayer block_layer(const mask::BlockSummary& summary, std::int64_t b, std::int64_t h);

}  // namespace ps::view
