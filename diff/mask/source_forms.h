// Masks that are neither programs nor tensors of pairs, as a command line names them (spec masks.md
// 4): lengths and cu_seqlens (R5), runs of each row (R7), the is_causal flag (R8).
#pragma once

#include <optional>
#include <string>

#include "core/safetensors.h"
#include "diff/mask/forms.h"

namespace ps::mask {

// "lengths=5,3 starts=0,2 causal", "cu_seqlens=0,11,20 causal", "is_causal=top-left" or
// "bottom-right"; nothing for any other word.
std::optional<Result<Program>> program_of_form(const std::string& word,
                                               const std::optional<Dims>& sizes);

// The same from tensors PREFIXlengths and PREFIXstarts, or PREFIXcu_seqlens, all of one axis.
std::optional<Result<Program>> program_of_lists(const SafetensorsFile& file,
                                                const std::string& prefix, bool causal,
                                                const std::optional<Dims>& sizes);

// PREFIXrow_begin [B*H*Q + 1] and PREFIXrow_runs [N,2]: row r has the half-open runs row_begin[r]
// to row_begin[r + 1].
bool has_row_runs(const SafetensorsFile& file, const std::string& prefix);
Result<Mask> mask_of_row_runs(const SafetensorsFile& file, const std::string& prefix,
                              const std::optional<Dims>& dims);

}  // namespace ps::mask
