// --names, and what commands that read traces do with other programs' files.
#pragma once

#include <string>

#include "diff/cli/arguments.h"
#include "diff/foreign/convert.h"
#include "diff/report/report.h"

namespace ps::cli {

inline constexpr Option kNames{
    "--names", "PRESET",
    "the names that the values have: vllm, sglang, nano-vllm, llama.cpp,\n"
    "llama.cpp-norm, hf, or a file of rules; default: recognised"};

// --names, and the config of --model where it is given.
Result<ConvertOptions> convert_options(const Arguments& arguments);
// What stayed unknown, did not fit or was left out, a line each.
std::string conversion_details(const Conversion& conversion);
// Says on stderr, and in the report, what was read in another form.
void tell_conversion(const ForeignTrace& trace, const std::string& source);
void note_conversion(const ForeignTrace& trace, const std::string& key, Report& report);

}  // namespace ps::cli
