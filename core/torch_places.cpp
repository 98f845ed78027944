#include "core/torch_places.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <system_error>

#include "core/file.h"
#include "core/library.h"

namespace ps {

namespace {

namespace fs = std::filesystem;

constexpr OwnLibrary kReference = {
    "libparscope_reference.so", "PARSCOPE_REFERENCE", "the reference",
    "run ./dev build, or install a release; commands that need LibTorch cannot run without it"};
constexpr const char* kTorch = "libtorch_cpu.so";

// DIR/lib or DIR, whichever holds LibTorch.
fs::path lib_below(const fs::path& dir) {
  std::error_code ec;
  for (const fs::path& lib : {dir / "lib", dir}) {
    if (!dir.empty() && fs::exists(lib / kTorch, ec)) return lib;
  }
  return {};
}

std::string version_beside(const fs::path& lib) {
  const Result<std::string> text = read_text(lib.parent_path() / "version.py", 1 << 16);
  if (lib.empty() || !text.ok()) return "";
  const std::size_t at = text->find("__version__");
  const std::size_t open = text->find('\'', at), close = text->find('\'', open + 1);
  if (at == std::string::npos || close == std::string::npos) return "";
  return text->substr(open + 1, close - open - 1);
}

// Without importing torch, which takes seconds.
fs::path python_torch() {
  constexpr const char* kAsk =
      "python3 -c 'import importlib.util as u; s = u.find_spec(\"torch\"); "
      "print(s.submodule_search_locations[0] if s else \"\")' 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(kAsk, "re"), ::pclose);
  if (!pipe) return {};
  std::array<char, 4096> line{};
  if (std::fgets(line.data(), static_cast<int>(line.size()), pipe.get()) == nullptr) return {};
  std::string text = line.data();
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

}  // namespace

Result<fs::path> find_reference() { return find_library(kReference); }

std::vector<TorchPlace> torch_places(bool ask_python) {
  std::vector<TorchPlace> out;
  const char* given = std::getenv("PARSCOPE_TORCH");
  out.push_back({"PARSCOPE_TORCH", given == nullptr ? fs::path() : lib_below(given), ""});
  const fs::path here = this_program().parent_path();
  fs::path beside = lib_below(here / "torch");
  if (beside.empty()) beside = lib_below(here / ".." / "lib" / "parscope" / "torch");
  out.push_back({"beside the program", beside.lexically_normal(), ""});
  if (ask_python) out.push_back({"python3's torch", lib_below(python_torch()), ""});
  for (TorchPlace& place : out) place.version = version_beside(place.lib);
  return out;
}

std::string torch_version_built_for() {
#ifdef PS_TORCH_VERSION
  return PS_TORCH_VERSION;
#else
  return "";
#endif
}

}  // namespace ps
