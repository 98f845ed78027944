// torch.save's files (the zip format, torch >= 1.6), read without Python and without running
// anything: tensors under the path of keys that leads to them ("layers.0.q", "hidden_states.3").
#pragma once

#include "diff/foreign/values.h"

namespace ps {

struct TorchFile {
  std::vector<NamedTensor> tensors;
  std::size_t skipped = 0;    // numbers and strings, which are no tensors
  std::string first_skipped;  // its path
};
// A file that is one tensor gives it the name `stem`.
Result<TorchFile> parse_torch_file(std::span<const std::byte> bytes,
                                   const std::shared_ptr<const void>& keep, const std::string& stem,
                                   const std::string& where);

}  // namespace ps
