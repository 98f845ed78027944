// The options that the verbs of `parscope mask` share, and the facts that they report.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "diff/cli/arguments.h"
#include "diff/mask/source.h"

namespace ps::cli {

struct MaskRequest {
  std::optional<mask::Dims> sizes;
  mask::SourceOptions read;
  std::optional<std::pair<std::int64_t, std::int64_t>> plane;
};

Result<MaskRequest> mask_request(const Arguments& arguments);

// "3,0,17": the numbers of an option.
Result<std::vector<std::int64_t>> mask_numbers(const Arguments& arguments, std::string_view option);
std::string mask_facts_json(const mask::Mask& m, const MaskRequest& request);

}  // namespace ps::cli
