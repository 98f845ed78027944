// The reference's own run beside a progress file: a safetensors file that is replaced as a whole.
// It only saves time: where it is missing, damaged or of another check, the run is done again.
#include <cstdlib>
#include <unistd.h>

#include "core/crc32.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "diff/isolate/check_progress.h"

namespace ps {

namespace {

constexpr std::string_view kPoint = "point/";
constexpr std::string_view kCache = "cache/";
constexpr std::string_view kPast = "past/";
constexpr double kLeastSeconds = 5;
constexpr double kShare = 20;  // at most one part of so many of the time goes into keeping

// PARSCOPE_KEEP_SECONDS: how often at most, for tests.
double least_seconds() {
  const char* text = std::getenv("PARSCOPE_KEEP_SECONDS");
  return text == nullptr ? kLeastSeconds : std::atof(text);
}

std::optional<std::int64_t> integer(const SafetensorsFile& file, const char* name) {
  const auto found = file.metadata().find(name);
  if (found == file.metadata().end()) return std::nullopt;
  const auto json = parse_json(found->second, name);
  return json.ok() && json->is(Json::Kind::kInteger) ? std::optional(json->integer) : std::nullopt;
}

}  // namespace

std::filesystem::path CheckProgress::own_run_file() const {
  return file_.string() + ".reference.safetensors";
}

bool CheckProgress::wants_own_run() const {
  if (run_ != 0 || !records_.empty() || !all_plain_) return false;
  const std::chrono::duration<double> since = std::chrono::steady_clock::now() - kept_;
  return since.count() >= least_seconds() && since.count() >= kShare * keeping_.count();
}

Result<void> CheckProgress::keep_own_run(std::int64_t step, const std::string& point,
                                         const OwnRunState& state) {
  const auto start = std::chrono::steady_clock::now();
  if (::fdatasync(fd_) != 0) return machine_error(file_.string(), "cannot be synced");
  PS_TRY(SafetensorsWriter writer, SafetensorsWriter::create(own_run_file()));
  Crc32 crc;
  const auto put = [&](std::string_view kind, const auto& tensors) -> Result<void> {
    for (const auto& [name, tensor] : tensors) {
      crc.bytes(tensor.view().bytes);
      PS_TRY_VOID(writer.add(std::string(kind) + name, tensor.view()));
    }
    return {};
  };
  PS_TRY_VOID(put(kPoint, state.points));
  PS_TRY_VOID(put(kCache, state.caches));
  PS_TRY_VOID(put(kPast, state.past));
  writer.set_metadata("point", point);
  writer.set_metadata("step", std::to_string(step));
  writer.set_metadata("ops", std::to_string(state.ops));
  writer.set_metadata("pins", std::to_string(pins_));
  writer.set_metadata("crc32", std::to_string(crc.value()));
  PS_TRY_VOID(writer.close());
  kept_ = std::chrono::steady_clock::now();
  keeping_ = kept_ - start;
  return {};
}

std::optional<CheckProgress::KeptOwnRun> CheckProgress::kept_own_run() const {
  if (records_.empty()) return std::nullopt;
  const Result<SafetensorsFile> file = SafetensorsFile::open(own_run_file());
  if (!file.ok()) return std::nullopt;
  const auto step = integer(*file, "step"), ops = integer(*file, "ops"),
             pins = integer(*file, "pins"), crc = integer(*file, "crc32");
  const auto point = file->metadata().find("point");
  // Beyond what was judged, the points between would be missed.
  if (!step || point == file->metadata().end() || !knows(*step, point->second)) return std::nullopt;
  if (!ops || !crc || pins != std::optional<std::int64_t>(pins_)) return std::nullopt;
  KeptOwnRun out{*step, {*ops, {}, {}, {}}};
  Crc32 now;
  const auto get = [&](std::string_view kind, std::map<std::string, Tensor>& into) {
    for (const SafetensorsFile::Entry& entry : file->entries()) {
      if (!entry.name.starts_with(kind)) continue;
      into.emplace(entry.name.substr(kind.size()), Tensor::copy_of(entry.view));
    }
    for (const auto& [name, tensor] : into) now.bytes(tensor.view().bytes);
  };
  get(kPoint, out.state.points);
  get(kCache, out.state.caches);
  get(kPast, out.state.past);
  if (static_cast<std::int64_t>(now.value()) != *crc) return std::nullopt;
  return out;
}

}  // namespace ps
