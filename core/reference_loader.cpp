// Finds and opens libparscope_reference.so. Its symbols stay its own (RTLD_LOCAL) and its own come
// first (RTLD_DEEPBIND): another BLAS in the program cannot serve LibTorch, nor LibTorch's another.
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <mutex>
#include <string>
#include <system_error>

#include "core/engine.h"
#include "core/gradients.h"
#include "core/ranks.h"
#include "core/sparse.h"

namespace ps {

namespace {

namespace fs = std::filesystem;

struct Library {
  Reference* (*make)(const Model*, const ReferenceOptions*, Error*) = nullptr;
  SparseReference* (*make_sparse)(const SparseConfig*, const SparseWeights*, Error*) = nullptr;
  Ranks* (*make_ranks)(const RankModel*, const ReferenceOptions*, Error*) = nullptr;
  GradientReference* (*make_gradients)(const Model*, const ReferenceOptions*, DType,
                                       Error*) = nullptr;
};
constexpr const char* kLibrary = "libparscope_reference.so";
constexpr const char* kSymbol = "parscope_make_reference";
constexpr const char* kSparseSymbol = "parscope_make_sparse_reference";
constexpr const char* kRanksSymbol = "parscope_make_ranks";
constexpr const char* kGradientsSymbol = "parscope_make_gradients";
constexpr const char* kRemedy =
    "run ./dev build; commands that need LibTorch cannot run without it";

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

Result<fs::path> find_library() {
  if (const char* given = std::getenv("PARSCOPE_REFERENCE"); given != nullptr && *given != '\0') {
    return fs::path(given);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path here = program.parent_path();
  for (const fs::path& path : {here / kLibrary, here / ".." / "lib" / "parscope" / kLibrary}) {
    if (fs::exists(path, error)) return path;
  }
  return machine_error(kLibrary, std::string("the reference is not here; ") + kRemedy,
                       "it beside the program, in ../lib/parscope, or at PARSCOPE_REFERENCE");
}

Result<Library> open_library() {
  PS_TRY(const fs::path path, find_library());
  // LibTorch's OpenMP threads spin while they wait: where others use the cores as well, a run was
  // measured to take 10 s instead of 0.3 s.
  ::setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/0);
  int flags = RTLD_NOW | RTLD_LOCAL;
  if (kDeepBind) flags |= RTLD_DEEPBIND;
  void* library = ::dlopen(path.c_str(), flags);
  if (library == nullptr) {
    const char* reason = ::dlerror();
    return machine_error(
        path.string(),
        std::string("the reference, or LibTorch under it, does not load; ") + kRemedy, "",
        reason == nullptr ? "" : reason);
  }
  // The library stays open until the program ends: LibTorch's threads do not survive a dlclose.
  const auto symbol = [&](const char* name) -> Result<void*> {
    void* found = ::dlsym(library, name);
    if (found != nullptr) return found;
    return machine_error(path.string(),
                         "is another library, or of another version; run ./dev build", name);
  };
  PS_TRY(void* const make, symbol(kSymbol));
  PS_TRY(void* const make_sparse, symbol(kSparseSymbol));
  PS_TRY(void* const make_ranks, symbol(kRanksSymbol));
  PS_TRY(void* const make_gradients, symbol(kGradientsSymbol));
  return Library{reinterpret_cast<decltype(Library::make)>(make),
                 reinterpret_cast<decltype(Library::make_sparse)>(make_sparse),
                 reinterpret_cast<decltype(Library::make_ranks)>(make_ranks),
                 reinterpret_cast<decltype(Library::make_gradients)>(make_gradients)};
}

Result<Library> the_library() {
  static std::mutex mutex;
  static Library library;
  const std::lock_guard lock(mutex);
  if (library.make == nullptr) {
    PS_TRY(library, open_library());
  }
  return library;
}

template <class T>
Result<std::unique_ptr<T>> owned(T* made, const Error& error) {
  if (made != nullptr) return std::unique_ptr<T>(made);
  if (error.what.empty()) return machine_error(kLibrary, "the reference could not be made");
  return error;
}

}  // namespace

Result<std::unique_ptr<Reference>> open_reference(const Model& model,
                                                  const ReferenceOptions& options) {
  PS_TRY(const Library library, the_library());
  Error error;
  Reference* made = library.make(&model, &options, &error);
  return owned(made, error);
}

Result<std::unique_ptr<SparseReference>> open_sparse_reference(const SparseConfig& config,
                                                               const SparseWeights& weights) {
  PS_TRY(const Library library, the_library());
  Error error;
  SparseReference* made = library.make_sparse(&config, &weights, &error);
  return owned(made, error);
}

Result<std::unique_ptr<Ranks>> open_simulated_ranks(const RankModel& model,
                                                    const ReferenceOptions& options) {
  PS_TRY(const Library library, the_library());
  Error error;
  Ranks* made = library.make_ranks(&model, &options, &error);
  return owned(made, error);
}

Result<std::unique_ptr<GradientReference>> open_gradient_reference(const Model& model,
                                                                   const ReferenceOptions& options,
                                                                   DType run) {
  PS_TRY(const Library library, the_library());
  Error error;
  GradientReference* made = library.make_gradients(&model, &options, run, &error);
  return owned(made, error);
}

}  // namespace ps
