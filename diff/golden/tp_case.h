// A tensor-parallel golden case (schema parscope.tp.case/1), read: what its files say, and the
// model they describe. tensor_parallel_case.cpp puts the checks in order.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "diff/golden/golden.h"
#include "diff/shard/plan.h"
#include "diff/shard/rank_model.h"

namespace ps {

struct TpCase {
  std::filesystem::path dir;
  Json json;  // case.json
  ModelConfig config;
  std::vector<std::int64_t> tps, rejected, steps;
  std::int64_t tp_full = 1;
  std::int64_t batch = 0, tokens = 0;                        // of all steps
  std::vector<std::int64_t> input_ids, position_ids, valid;  // [batch, tokens]
  EmptyRows empty_rows = EmptyRows::kZeros;
  double f64_rel = 1e-12, f32_rel_logits = 0;
  std::optional<SafetensorsFile> weights, acts;

  SourceLookup sources() const;
  PinnedRope rope() const;  // by position, from the case's tables (already checked)
  StepInputs step(std::size_t i) const;
  std::int64_t past(std::size_t i) const;
  // Row [b, t of step i] is a real token.
  bool is_valid(std::size_t step, std::int64_t b, std::int64_t t) const;
};

// Reads case.json, weights and points; everything that case.json says twice must agree.
Result<TpCase> read_tp_case(const std::filesystem::path& dir);

// plan.json, the rejected tps, shards.safetensors.
Result<std::string> check_tp_plans(const TpCase& c);
// rope/, f64/, f32/, hf/, cache/, partial sums, for every tp.
Result<std::string> check_tp_points(const TpCase& c);
// faults.json: code, first bad point, the stored errors.
Result<std::string> check_tp_faults(const TpCase& c);

// Values of one run: the ranks' points joined, partial sums by rank as "rankR/NAME:partial".
struct TpRun {
  std::vector<std::map<std::string, Tensor>> steps;
};
Result<TpRun> run_tp(const TpCase& c, const RankModel& model, DType dtype, EmptyRows empty_rows);

// ||a - b|| / ||b|| of a point of step 0. faults.json counts padding's rows at the first bad point,
// and only real tokens (of [batch, token, vocab]) at the logits.
double relative_error(const TpCase& c, const TensorView& a, const TensorView& b, bool real_tokens);

// The first place where two JSON texts differ: "/8/3/4: expected 5, found 6"; empty: equal.
std::string first_difference(const std::string& expected, const std::string& found);

Result<Json> read_json_file(const std::filesystem::path& path);
Result<std::vector<std::int64_t>> integers(const Json& json, std::string_view name,
                                           const std::string& where);

}  // namespace ps
