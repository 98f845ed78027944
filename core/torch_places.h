// Where the reference and LibTorch under it are looked for: what the loader does, and what
// `parscope doctor` shows.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/result.h"

namespace ps {

struct TorchPlace {
  std::string how;            // "PARSCOPE_TORCH", "beside the program", "python3's torch"
  std::filesystem::path lib;  // with libtorch_cpu.so; empty: there is none
  std::string version;        // of torch/version.py, where that is there
};

// libparscope_reference.so: PARSCOPE_REFERENCE, beside the program, or in ../lib/parscope.
Result<std::filesystem::path> find_reference();
// In the order in which they are tried. PARSCOPE_TORCH may name the torch folder or its lib/.
// Asking python3 takes a moment: only with `ask_python`.
std::vector<TorchPlace> torch_places(bool ask_python);
// The version that this build was made for; empty where nobody said.
std::string torch_version_built_for();
// Opens the reference as commands do; the libtorch_cpu.so that it runs on.
Result<std::string> load_reference();

}  // namespace ps
