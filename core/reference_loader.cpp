// Opens libparscope_reference.so and LibTorch under it, each with its symbols to itself.
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>
#include <string_view>

#include "core/engine.h"
#include "core/gradients.h"
#include "core/library.h"
#include "core/ranks.h"
#include "core/sparse.h"
#include "core/torch_places.h"

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
std::string dl_reason() {
  const char* reason = ::dlerror();
  return reason == nullptr ? "" : reason;
}

// Opens LibTorch of `lib`, so that the reference finds it by its name. It stays open.
std::string preload_torch(const fs::path& lib) {
  for (const char* name : {"libc10.so", "libtorch_cpu.so"}) {
    if (::dlopen((lib / name).c_str(), own_symbols()) == nullptr) return dl_reason();
  }
  return "";
}

// What to do, and what was tried, for whoever has to mend it.
Error no_torch(const fs::path& reference, const std::string& reason, bool asked_python) {
  const std::string wants = torch_version_built_for();
  const std::string remedy = "pip install torch" + (wants.empty() ? "" : "==" + wants) +
                             ", or set PARSCOPE_TORCH to a torch folder" +
                             (wants.empty() ? "" : " of that version") +
                             " (parscope doctor says more)";
  std::string tried;
  // A build tree knows a LibTorch that is none of these places: then the loader's reason counts.
  bool missing = reason.find("torch_cpu.so") != std::string::npos;
  for (const TorchPlace& place : torch_places(asked_python)) {
    std::string found = place.lib.empty() ? "none" : place.lib.string();
    if (!place.version.empty()) found += " (torch " + place.version + ")";
    tried += (tried.empty() ? "" : ", ") + place.how + ": " + found;
    missing = missing && place.lib.empty();
  }
  if (missing) {
    return machine_error("LibTorch" + (wants.empty() ? "" : " " + wants),
                         "this command needs it, and it is not here; " + remedy, "", tried);
  }
  return machine_error(reference.string(),
                       "does not load" +
                           (wants.empty() ? "" : ", and was built for LibTorch " + wants) + "; " +
                           remedy + "; in a checkout, run ./dev build",
                       "", reason + " [" + tried + "]");
}

// The library as it finds LibTorch by itself (a build tree), else with LibTorch from elsewhere.
// PARSCOPE_TORCH goes first: who sets it wants it.
Result<void*> open_with_torch(const fs::path& path) {
  const char* given = std::getenv("PARSCOPE_TORCH");
  const bool chosen = given != nullptr && *given != '\0' && std::string_view(given) != "none";
  if (chosen) {
    const fs::path lib = torch_places(false)[0].lib;
    if (lib.empty()) {
      return machine_error(std::string("PARSCOPE_TORCH=") + given, "holds no libtorch_cpu.so",
                           "a torch folder, or its lib/");
    }
    const std::string reason = preload_torch(lib);
    if (!reason.empty()) return no_torch(path, reason, false);
  }
  if (void* library = ::dlopen(path.c_str(), own_symbols()); library != nullptr) return library;
  const std::string reason = dl_reason();
  if (chosen) return no_torch(path, reason, false);
  for (const bool ask_python : {false, true}) {
    const std::vector<TorchPlace> places = torch_places(ask_python);
    const fs::path& lib = places.back().lib;
    if (lib.empty() || !preload_torch(lib).empty()) continue;
    if (void* library = ::dlopen(path.c_str(), own_symbols()); library != nullptr) return library;
  }
  return no_torch(path, reason, true);
}

Result<Library> open_all() {
  PS_TRY(const fs::path path, find_reference());
  // LibTorch's OpenMP threads spin while they wait: where others use the cores as well, a run was
  // measured to take 10 s instead of 0.3 s.
  ::setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/0);
  PS_TRY(void* const library, open_with_torch(path));
  // The library stays open until the program ends: LibTorch's threads do not survive a dlclose.
  const auto symbol = [&](const char* name) { return symbol_of(library, path.string(), name); };
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
    PS_TRY(library, open_all());
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

Result<std::string> load_reference() {
  PS_TRY(const Library library, the_library());
  static_cast<void>(library);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.ends_with("/libtorch_cpu.so")) return line.substr(line.find('/'));
  }
  return std::string("libtorch_cpu.so");
}

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
