// Opens libparscope_reference.so and makes what it has.
#include <cstdlib>
#include <mutex>
#include <string>

#include "core/engine.h"
#include "core/library.h"
#include "core/ranks.h"
#include "core/sparse.h"

namespace ps {

namespace {

struct Library {
  Reference* (*make)(const Model*, const ReferenceOptions*, Error*) = nullptr;
  SparseReference* (*make_sparse)(const SparseConfig*, const SparseWeights*, Error*) = nullptr;
  Ranks* (*make_ranks)(const RankModel*, const ReferenceOptions*, Error*) = nullptr;
};
constexpr OwnLibrary kLibrary = {
    "libparscope_reference.so", "PARSCOPE_REFERENCE", "the reference",
    "run ./dev build; commands that need LibTorch cannot run without it"};

Result<Library> load() {
  // LibTorch's OpenMP threads spin while they wait: where others use the cores as well, a run was
  // measured to take 10 s instead of 0.3 s.
  ::setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/0);
  // It stays open until the program ends: LibTorch's threads do not survive a dlclose.
  PS_TRY(void* const opened, open_library(kLibrary));
  PS_TRY(void* const make, symbol_of(opened, kLibrary, "parscope_make_reference"));
  PS_TRY(void* const make_sparse, symbol_of(opened, kLibrary, "parscope_make_sparse_reference"));
  PS_TRY(void* const make_ranks, symbol_of(opened, kLibrary, "parscope_make_ranks"));
  return Library{reinterpret_cast<decltype(Library::make)>(make),
                 reinterpret_cast<decltype(Library::make_sparse)>(make_sparse),
                 reinterpret_cast<decltype(Library::make_ranks)>(make_ranks)};
}

Result<Library> the_library() {
  static std::mutex mutex;
  static Library library;
  const std::lock_guard lock(mutex);
  if (library.make == nullptr) {
    PS_TRY(library, load());
  }
  return library;
}

template <class T>
Result<std::unique_ptr<T>> owned(T* made, const Error& error) {
  if (made != nullptr) return std::unique_ptr<T>(made);
  if (error.what.empty()) return machine_error(kLibrary.file, "the reference could not be made");
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

}  // namespace ps
