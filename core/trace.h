// Traces (spec trace.md): what two runs are compared by. Reading maps files and checks nothing but
// form; what a trace says about a model is diff/'s business.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/engine.h"
#include "core/ids.h"
#include "core/result.h"
#include "core/safetensors.h"

namespace ps {

enum class StepOp : std::uint8_t { kForward, kReorderCache, kGenerate };

struct TraceStep {
  std::int64_t step = 0;
  std::int64_t rank = 0;
  StepOp op = StepOp::kForward;
  std::string file;                    // relative to the trace
  std::vector<std::int64_t> beam_idx;  // kReorderCache
  std::int64_t num_beams = 1;          // kGenerate
  std::int64_t max_new_tokens = 0;     // kGenerate
  bool greedy = false;
  bool use_cache = true;
  std::shared_ptr<const SafetensorsFile> tensors;
};

struct ShardSpec {
  std::string pattern;  // "model.layers.*.self_attn.q_proj"
  std::int64_t dim = 0;
};

struct TraceManifest {
  std::string producer;
  std::string model_json;      // the model's config.json; empty when not given
  std::optional<DType> dtype;  // absent: most floating tensors' dtype
  std::string device;
  std::int64_t world_size = 1;
  std::int64_t tensor_parallel = 1;
  std::vector<ShardSpec> shards;
};

class Trace {
 public:
  // A directory with trace.json (or bare step files), or one .safetensors file.
  static Result<Trace> open(const std::filesystem::path& path);
  // trace.json's text alone; what the fuzzer calls. Files are not opened.
  static Result<Trace> parse_manifest(std::string_view json, const std::string& where);

  const TraceManifest& manifest() const { return manifest_; }
  const std::vector<TraceStep>& steps() const { return steps_; }  // by step, then rank
  const std::filesystem::path& path() const { return path_; }
  DType run_dtype() const;

 private:
  std::filesystem::path path_;
  TraceManifest manifest_;
  std::vector<TraceStep> steps_;
};

// The step's own inputs (input_ids and what stands beside it). Error when input_ids is missing or
// shapes do not fit; `past` is what the steps before have left in the cache.
Result<StepInputs> step_inputs(const TraceStep& step, std::int64_t past);

// Writes a trace directory: each step's file whole or not at all, with the metadata of `tensors`.
class TraceWriter {
 public:
  static Result<TraceWriter> create(const std::filesystem::path& dir, TraceManifest manifest,
                                    Packing packing = {});
  // Points given to take() between begin_step and end_step go into the step's file.
  Result<void> begin_step(TraceStep step, const StepInputs* inputs);
  Result<void> add(std::string_view name, const TensorView& value);
  Result<void> end_step();
  Result<void> close();  // trace.json, last

 private:
  std::filesystem::path dir_;
  TraceManifest manifest_;
  Packing packing_;
  std::vector<TraceStep> steps_;
  std::optional<SafetensorsWriter> writer_;
};

}  // namespace ps
