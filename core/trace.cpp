#include "core/trace.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>
#include <utility>

#include "core/file.h"
#include "core/trace_manifest.h"

namespace ps {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kManifest = "trace.json";
constexpr std::string_view kMetadataKey = "parscope";

// "step-00003.rank-00001.safetensors", plain or packed; nullopt for every other name.
std::optional<TraceStep> step_of_name(const std::string& name) {
  constexpr std::string_view kStep = "step-";
  constexpr std::string_view kRank = ".rank-";
  constexpr std::string_view kEnd = ".safetensors";
  std::string_view text = name;
  TraceStep step;
  const auto number = [&](std::string_view prefix, std::int64_t& out) {
    if (!text.starts_with(prefix)) return false;
    text.remove_prefix(prefix.size());
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    if (error != std::errc{} || out < 0 || text[0] == '-') return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
  };
  if (!number(kStep, step.step) || !number(kRank, step.rank)) return std::nullopt;
  if (!text.starts_with(kEnd)) return std::nullopt;
  text.remove_prefix(kEnd.size());
  if (!text.empty() && text != kPackedEnding) return std::nullopt;
  step.file = name;
  return step;
}

Result<std::vector<TraceStep>> bare_steps(const fs::path& dir) {
  std::vector<TraceStep> steps;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (auto step = step_of_name(it->path().filename().string())) steps.push_back(*std::move(step));
  }
  if (error) return bad_input(dir.string(), "cannot be listed", "", error.message());
  if (steps.empty()) {
    return bad_input(dir.string(), "is no trace",
                     "trace.json or step-00000.rank-00000.safetensors in it");
  }
  std::sort(steps.begin(), steps.end(), [](const TraceStep& a, const TraceStep& b) {
    return std::tie(a.step, a.rank, a.file) < std::tie(b.step, b.rank, b.file);
  });
  const auto twice = std::adjacent_find(
      steps.begin(), steps.end(),
      [](const TraceStep& a, const TraceStep& b) { return a.step == b.step && a.rank == b.rank; });
  if (twice != steps.end()) {
    return bad_input(dir.string(), "holds one step of one rank twice", "",
                     twice->file + " and " + std::next(twice)->file);
  }
  return steps;
}

// The manifest that a file carries in its metadata.
Result<std::optional<ManifestText>> carried_manifest(const SafetensorsFile& file) {
  const auto found = file.metadata().find(std::string(kMetadataKey));
  if (found == file.metadata().end()) return std::optional<ManifestText>();
  PS_TRY(ManifestText text, parse_manifest_text(found->second, file.where() + ": metadata parscope",
                                                StepsField::kOptional));
  return std::optional<ManifestText>(std::move(text));
}

Result<void> open_files(const fs::path& dir, std::vector<TraceStep>& steps) {
  for (TraceStep& step : steps) {
    if (step.file.empty()) {
      step.tensors = std::make_shared<const SafetensorsFile>();
      continue;
    }
    PS_TRY(SafetensorsFile file, SafetensorsFile::open(dir / step.file));
    step.tensors = std::make_shared<const SafetensorsFile>(std::move(file));
  }
  return {};
}

// What the manifest says of this very file, or of its only step; else step 0 of rank 0.
TraceStep step_of_file(const ManifestText& text, const std::string& name) {
  const auto found = std::find_if(text.steps.begin(), text.steps.end(),
                                  [&](const TraceStep& step) { return step.file == name; });
  if (found != text.steps.end()) return *found;
  return text.steps.size() == 1 ? text.steps.front() : TraceStep{};
}

}  // namespace

Result<Trace> Trace::parse_manifest(std::string_view json, const std::string& where) {
  PS_TRY(ManifestText text, parse_manifest_text(json, where, StepsField::kRequired));
  Trace trace;
  trace.manifest_ = std::move(text.manifest);
  trace.steps_ = std::move(text.steps);
  return trace;
}

Result<Trace> Trace::open(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return bad_input(path.string(), "does not exist", "a trace");
  if (!fs::is_directory(path, ignored)) {
    PS_TRY(SafetensorsFile file, SafetensorsFile::open(path));
    PS_TRY(std::optional<ManifestText> carried, carried_manifest(file));
    const ManifestText text = std::move(carried).value_or(ManifestText{});
    const std::string name = path.filename().string();
    Trace trace;
    trace.path_ = path;
    trace.manifest_ = text.manifest;
    TraceStep step = step_of_file(text, name);
    step.file = name;
    step.tensors = std::make_shared<const SafetensorsFile>(std::move(file));
    trace.steps_.push_back(std::move(step));
    return trace;
  }
  Trace trace;
  if (fs::exists(path / kManifest, ignored)) {
    constexpr std::int64_t kLongestManifest = 64 << 20;
    PS_TRY(const std::string text, read_text(path / kManifest, kLongestManifest));
    PS_TRY(trace, parse_manifest(text, (path / kManifest).string()));
    PS_TRY_VOID(open_files(path, trace.steps_));
  } else {
    PS_TRY(trace.steps_, bare_steps(path));
    PS_TRY_VOID(open_files(path, trace.steps_));
    for (const TraceStep& step : trace.steps_) {
      PS_TRY(std::optional<ManifestText> carried, carried_manifest(*step.tensors));
      if (!carried) continue;
      trace.manifest_ = carried->manifest;
      break;
    }
    for (const TraceStep& step : trace.steps_) {
      trace.manifest_.world_size = std::max(trace.manifest_.world_size, step.rank + 1);
    }
  }
  trace.path_ = path;
  return trace;
}

DType Trace::run_dtype() const {
  if (manifest_.dtype) return *manifest_.dtype;
  std::map<DType, std::int64_t> votes;
  for (const TraceStep& step : steps_) {
    if (step.tensors == nullptr) continue;
    for (const SafetensorsFile::Entry& entry : step.tensors->entries()) {
      const DType dtype = entry.view.dtype;
      if (is_floating(dtype) && size_of(dtype) > 1) ++votes[dtype];
    }
  }
  const auto most = std::max_element(
      votes.begin(), votes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == votes.end() ? DType::kF32 : most->first;
}

}  // namespace ps
