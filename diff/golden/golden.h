// Golden-fixture regression tests: finds every case below a folder, runs it, and says pass or fail.
// A case is data: a new one is a folder.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/result.h"

namespace ps {

// How a case gets the engine that it judges. `dtype` and `empty_rows` are the case's own.
using OpenEngine = std::function<Result<std::unique_ptr<Engine>>(const Model& model,
                                                                 const EngineOptions& options)>;

enum class GoldenKind : std::uint8_t { kParscale, kTensorParallel, kSparse, kMasks, kRecorded };
std::string_view to_string(GoldenKind kind);

struct GoldenCase {
  std::string name;            // path below the folder that was searched
  std::filesystem::path path;  // the case's folder, or its file (layouts.json)
  GoldenKind kind = GoldenKind::kParscale;
  std::string unreadable;  // why it cannot even be classified; empty when it can
};

struct GoldenResult {
  std::string name;
  std::string kind;
  bool pass = false;
  std::string message;                  // what failed first, or what was checked
  std::optional<Error> machine_failed;  // the case could not be judged at all
};

// Every case below `dir`, sorted by name. None is an Error.
Result<std::vector<GoldenCase>> find_golden_cases(const std::filesystem::path& dir);

struct GoldenOptions {
  OpenEngine open;
  // The reference is held to 1e-12 in float64 and to the case's own type; the candidate has no
  // float64 and is held to rounding.
  bool is_reference = true;
  std::vector<DType> dtypes;  // what a candidate is run in; empty = float32 and the case's own
};

GoldenResult verify_golden(const GoldenCase& golden, const GoldenOptions& options);

std::string golden_json(const std::vector<GoldenResult>& results);

}  // namespace ps
