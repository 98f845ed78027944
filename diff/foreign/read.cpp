#include "diff/foreign/read.h"

#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include "core/safetensors.h"
#include "diff/foreign/npy.h"
#include "diff/foreign/torch_file.h"
#include "diff/foreign/zip.h"

namespace ps {

namespace {

namespace fs = std::filesystem;

constexpr const char* kKinds[] = {".npy", ".npz", ".pt", ".pth", ".bin"};

bool readable_kind(const fs::path& path) {
  return is_safetensors_name(path) ||
         std::find(std::begin(kKinds), std::end(kKinds), path.extension()) != std::end(kKinds);
}

Result<std::vector<NamedTensor>> read_safetensors(const fs::path& path) {
  PS_TRY(SafetensorsFile opened, SafetensorsFile::open(path));
  auto file = std::make_shared<const SafetensorsFile>(std::move(opened));
  std::vector<NamedTensor> out;
  for (const SafetensorsFile::Entry& e : file->entries()) out.push_back({e.name, e.view, file});
  return out;
}

// A trace as it is: its steps, its manifest.
bool is_step_file(const fs::path& file) {
  const std::string name = file.filename().string();
  return name.starts_with("step-") && name.find(".rank-") != name.npos && is_safetensors_name(file);
}

Result<ForeignRun> from_trace(const fs::path& path) {
  PS_TRY(Trace trace, Trace::open(path));
  ForeignRun run;
  run.manifest = trace.manifest();
  for (const TraceStep& step : trace.steps()) {
    ForeignStep out{step, {}};
    for (const SafetensorsFile::Entry& e : step.tensors->entries()) {
      out.tensors.push_back({e.name, e.view, step.tensors});
    }
    run.steps.push_back(std::move(out));
  }
  run.trace = std::move(trace);
  return run;
}

Result<std::vector<fs::path>> files_below(const fs::path& dir) {
  std::vector<fs::path> out;
  std::error_code ec;
  const auto options = fs::directory_options::skip_permission_denied;
  for (fs::recursive_directory_iterator it(dir, options, ec), end; !ec && it != end;
       it.increment(ec)) {
    if (it->is_regular_file(ec) && readable_kind(it->path())) out.push_back(it->path());
  }
  if (ec) return bad_input(dir.string(), "cannot be listed", "", ec.message());
  std::sort(out.begin(), out.end());
  return out;
}

std::string dotted(std::string text) {
  std::replace(text.begin(), text.end(), '/', '.');
  for (std::size_t at = 0; (at = text.find("..")) != text.npos;) text.erase(at, 1);
  const auto edge = [](char c) { return c == '.' || c == '_' || c == '-'; };
  while (!text.empty() && edge(text.front())) text.erase(text.begin());
  while (!text.empty() && edge(text.back())) text.pop_back();
  return text;
}

}  // namespace

FilePlace place_of(const fs::path& relative) {
  // "step", "Pass", "forward", "iter" before a number; ranks as "rank", "TP" (not PP: its ranks
  // hold other layers of the same model).
  static const std::regex kStep(
      "(^|[/._-])(step|pass|iter|forward|decode)[_-]?([0-9]{1,9})(?=$|[/._-])", std::regex::icase);
  static const std::regex kRank("(^|[/._-])(rank|tp)[_-]?([0-9]{1,6})(?=$|[/._-])",
                                std::regex::icase);
  static const std::regex kOther("(^|[/._-])(rank|pp|dp|pid)[_-]?[0-9]{1,12}(?=$|[/._-])",
                                 std::regex::icase);
  FilePlace out;
  std::string text = (relative.parent_path() / relative.stem()).generic_string();
  std::smatch m;
  if (std::regex_search(text, m, kStep)) {
    out.step = std::stoll(m[3]);
    text = std::regex_replace(text, kStep, "$1", std::regex_constants::format_first_only);
  }
  if (std::regex_search(text, m, kRank)) {
    out.rank = std::stoll(m[3]);
    text = std::regex_replace(text, kRank, "$1", std::regex_constants::format_first_only);
    text = std::regex_replace(text, kOther, "$1");
  }
  out.rest = dotted(text);
  return out;
}

Result<std::vector<NamedTensor>> parse_npz(std::span<const std::byte> bytes,
                                           const std::shared_ptr<const void>& keep,
                                           const std::string& where) {
  PS_TRY(const std::vector<ZipMember> members, zip_members(bytes, where));
  std::vector<NamedTensor> out;
  for (const ZipMember& m : members) {
    const std::string here = where + ": " + m.name;
    PS_TRY(const FileBytes data, zip_data(m, keep, here, Crc::kChecked));
    std::string name = m.name;
    if (name.ends_with(".npy")) name.resize(name.size() - 4);
    PS_TRY(NamedTensor tensor, parse_npy(std::move(name), data.bytes, data.keep, here));
    out.push_back(std::move(tensor));
  }
  return out;
}

Result<std::vector<NamedTensor>> read_tensors(const fs::path& path,
                                              std::vector<std::string>& notes) {
  const std::string kind = path.extension().string();
  const std::string where = path.string();
  if (is_safetensors_name(path)) return read_safetensors(path);
  PS_TRY(const FileBytes file, map_file(path));
  if (kind == ".npy") {
    PS_TRY(NamedTensor tensor, parse_npy(path.stem().string(), file.bytes, file.keep, where));
    return std::vector<NamedTensor>{std::move(tensor)};
  }
  if (kind == ".npz") return parse_npz(file.bytes, file.keep, where);
  if (kind == ".pt" || kind == ".pth" || kind == ".bin") {
    PS_TRY(TorchFile read, parse_torch_file(file.bytes, file.keep, path.stem().string(), where));
    if (read.skipped > 0) {
      notes.push_back(where + ": " + std::to_string(read.skipped) +
                      " values that are no tensors left out (" + read.first_skipped +
                      (read.skipped > 1 ? ", ...)" : ")"));
    }
    return std::move(read.tensors);
  }
  return bad_input(where, "is of a kind that parscope does not read",
                   "a trace, .safetensors, .npy, .npz or .pt", kind.empty() ? "no ending" : kind);
}

fs::path trace_folder(const fs::path& path) {
  if (path.filename() != "trace.json") return path;
  return path.has_parent_path() ? path.parent_path() : ".";
}

bool is_trace_folder(const fs::path& path) {
  std::error_code ec;
  if (fs::exists(path / "trace.json", ec)) return true;
  for (const fs::directory_entry& entry : fs::directory_iterator(path, ec)) {
    if (is_step_file(entry.path())) return true;
  }
  return false;
}

bool holds_dump(const fs::path& folder) {
  const Result<std::vector<fs::path>> files = files_below(folder);
  return files.ok() && std::any_of(files->begin(), files->end(),
                                   [](const fs::path& file) { return !is_safetensors_name(file); });
}

Result<ForeignRun> read_foreign(const fs::path& named) {
  const fs::path path = trace_folder(named);
  std::error_code ec;
  if (!fs::exists(path, ec)) {
    return bad_input(path.string(), "does not exist",
                     "a trace, .npz, .npy, .pt or a folder of them");
  }
  if (!fs::is_directory(path, ec)) {
    if (is_safetensors_name(path)) return from_trace(path);
    ForeignRun run;
    ForeignStep step;
    PS_TRY(step.tensors, read_tensors(path, run.notes));
    run.steps.push_back(std::move(step));
    return run;
  }
  if (is_trace_folder(path)) return from_trace(path);
  PS_TRY(const std::vector<fs::path> files, files_below(path));
  if (files.empty()) {
    return bad_input(path.string(), "holds no tensors", ".npy, .npz, .pt or .safetensors files");
  }
  ForeignRun run;
  std::map<std::pair<std::int64_t, std::int64_t>, ForeignStep> steps;
  std::map<std::string, fs::path> seen;
  for (const fs::path& file : files) {
    const FilePlace place = place_of(file.lexically_relative(path));
    const std::pair at{std::max<std::int64_t>(place.step, 0),
                       std::max<std::int64_t>(place.rank, 0)};
    ForeignStep& step = steps[at];
    step.meta.step = at.first;
    step.meta.rank = at.second;
    PS_TRY(std::vector<NamedTensor> tensors, read_tensors(file, run.notes));
    for (NamedTensor& t : tensors) {
      if (file.extension() == ".npy") t.name = place.rest;
      const std::string key =
          std::to_string(at.first) + "/" + std::to_string(at.second) + "/" + t.name;
      const auto [other, is_new] = seen.emplace(key, file);
      if (!is_new) {
        return bad_input(file.string(),
                         t.name + " is in " + other->second.filename().string() +
                             " too, for the same step and rank",
                         "each name once; step and rank as in step-3/rank-1");
      }
      step.tensors.push_back(std::move(t));
    }
  }
  // Steps are numbered from 0 without gaps, whatever the dump started with.
  std::map<std::int64_t, std::int64_t> renumbered;
  std::int64_t ranks = 1;
  for (auto& [at, step] : steps) {
    const auto number = static_cast<std::int64_t>(renumbered.size());
    step.meta.step = renumbered.emplace(at.first, number).first->second;
    ranks = std::max(ranks, step.meta.rank + 1);
    run.steps.push_back(std::move(step));
  }
  run.manifest.world_size = run.manifest.tensor_parallel = ranks;
  return run;
}

}  // namespace ps
