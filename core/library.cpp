// Symbols stay a library's own (RTLD_LOCAL) and its own come first (RTLD_DEEPBIND): another BLAS in
// the program cannot serve LibTorch, nor LibTorch's another.
#include "core/library.h"

#include <cstdlib>
#include <dlfcn.h>
#include <system_error>

namespace ps {

namespace {

namespace fs = std::filesystem;

#if defined(PS_NO_DEEPBIND) || defined(__SANITIZE_ADDRESS__)
constexpr bool kDeepBind = false;  // AddressSanitizer must see every malloc of the library
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kDeepBind = false;
#else
constexpr bool kDeepBind = true;
#endif
#else
constexpr bool kDeepBind = true;
#endif

}  // namespace

fs::path this_program() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error);
}

Result<fs::path> find_library(const OwnLibrary& library) {
  const char* given = std::getenv(library.variable);
  if (given != nullptr && *given != '\0') return fs::path(given);
  std::error_code error;
  const fs::path here = this_program().parent_path();
  for (const fs::path& path :
       {here / library.file, here / ".." / "lib" / "parscope" / library.file}) {
    if (fs::exists(path, error)) return path;
  }
  return machine_error(
      library.file, std::string(library.what) + " is not here; " + library.remedy,
      std::string("it beside the program, in ../lib/parscope, or at ") + library.variable);
}

int own_symbols() { return RTLD_NOW | RTLD_LOCAL | (kDeepBind ? RTLD_DEEPBIND : 0); }

Result<void*> open_library(const OwnLibrary& library) {
  PS_TRY(const fs::path path, find_library(library));
  void* opened = ::dlopen(path.c_str(), own_symbols());
  if (opened != nullptr) return opened;
  const char* reason = ::dlerror();
  return machine_error(
      path.string(),
      std::string(library.what) + ", or a library under it, does not load; " + library.remedy, "",
      reason == nullptr ? "" : reason);
}

Result<void*> symbol_of(void* opened, const std::string& where, const char* name) {
  void* found = ::dlsym(opened, name);
  if (found != nullptr) return found;
  return machine_error(where, "is another library, or of another version; run ./dev build", name);
}

}  // namespace ps
