// A mask as people name it on a command line: a program in a file or as text, a golden case or one
// of its variants, a tensor or block lists in a .safetensors file.
#pragma once

#include <optional>
#include <string>

#include "core/safetensors.h"
#include "diff/mask/check.h"
#include "diff/mask/forms.h"

namespace ps::mask {

// What was named, before the other side's sizes are known.
struct Source {
  std::string name;
  std::optional<Program> program;
  std::optional<SafetensorsFile> file;  // keeps the views alive
  std::optional<TensorView> tensor;
  std::optional<std::string> lists;  // FlexAttention's tables: what stands before their names
  std::optional<std::string> runs;   // the same of row_begin and row_runs
  bool guessed = false;              // nobody gave sizes, and the program has the least that fit
};

// WORD is FILE, FILE#/pointer, FILE.safetensors:TENSOR, FILE.safetensors:PREFIX/ (block lists, or
// the lists of source_forms.h), the folder of a golden case, a word of source_forms.h, or an
// expression in the text syntax.
Result<Source> open_source(const std::string& word, const std::optional<Dims>& sizes);

struct SourceOptions : ReadOptions {
  std::int64_t bq = 128, bk = 128;  // of block lists
  EdgeRule rule = EdgeRule::kTorch;
};

// The mask itself. `expected` gives the sizes, and what partial tiles of block lists apply.
Result<Reading> read_source(const Source& source, const Expected* expected,
                            const std::optional<Dims>& sizes, const SourceOptions& options);

// As the side that is right. A tensor becomes a program that holds its cells.
Result<Expected> expected_from(const Source& source, const std::optional<Dims>& sizes,
                               const SourceOptions& options);

}  // namespace ps::mask
