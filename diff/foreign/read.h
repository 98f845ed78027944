// Files of any program as steps of named tensors: traces, .safetensors, .npy, .npz, .pt, and
// folders of them. What the names mean is not known here (names.h).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/trace.h"
#include "diff/foreign/values.h"

namespace ps {

struct ForeignStep {
  TraceStep meta;  // step, rank, op; its tensors are not used
  std::vector<NamedTensor> tensors;
};

struct ForeignRun {
  TraceManifest manifest;          // what a trace says of itself; else empty
  std::vector<ForeignStep> steps;  // by step, then rank
  std::vector<std::string> notes;  // what was left out, and why
  std::optional<Trace> trace;      // what was read is a trace already, whatever its names
};

// Steps and ranks stand in the names of files and folders: step-3, Pass00003, iter_3, rank1, TP1.
// A .npy is named by its path below its step; a file of many tensors names them itself.
std::filesystem::path trace_folder(
    const std::filesystem::path& path);  // of its trace.json; else itself
bool is_trace_folder(const std::filesystem::path& path);
bool holds_dump(const std::filesystem::path& folder);  // .npy, .npz or torch files, anywhere below
Result<ForeignRun> read_foreign(const std::filesystem::path& path);

// The tensors of one .npy, .npz, .pt, .pth, .bin (torch) or .safetensors file.
Result<std::vector<NamedTensor>> read_tensors(const std::filesystem::path& path,
                                              std::vector<std::string>& notes);
// The tensors of bytes that are a .npz: what the fuzzer calls.
Result<std::vector<NamedTensor>> parse_npz(std::span<const std::byte> bytes,
                                           const std::shared_ptr<const void>& keep,
                                           const std::string& where);

// Where a path says that it belongs; -1: it does not say.
struct FilePlace {
  std::int64_t step = -1, rank = -1;
  std::string rest;  // what else the path says, as a name
};
FilePlace place_of(const std::filesystem::path& relative);

}  // namespace ps
