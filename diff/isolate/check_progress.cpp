#include "diff/isolate/check_progress.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <span>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "core/crc32.h"
#include "core/file.h"
#include "core/json.h"
#include "core/temp_file.h"

namespace ps {

namespace {

constexpr std::string_view kFormat = "parscope-progress/1";
constexpr std::size_t kCrcDigits = 8;
// Whoever kills a check loses nothing that was written; a machine that stops loses two seconds.
constexpr std::chrono::seconds kSyncEvery{2};

std::uint32_t crc_of(std::string_view text) { return crc32_of(std::as_bytes(std::span(text))); }

std::string framed(const std::string& line) { return crc32_text(crc_of(line)) + " " + line + "\n"; }

// What stands behind a line's checksum; nothing where it is not what was written.
std::optional<std::string_view> unframed(std::string_view line) {
  if (line.size() <= kCrcDigits || line[kCrcDigits] != ' ') return std::nullopt;
  const std::string_view text = line.substr(kCrcDigits + 1);
  if (line.substr(0, kCrcDigits) != crc32_text(crc_of(text))) return std::nullopt;
  return text;
}

std::string header_of(const Pins& pins) {
  std::string out = "{\"format\":" + json_quoted(kFormat) + ",\"pins\":{";
  for (std::size_t i = 0; i < pins.size(); ++i) {
    out += (i == 0 ? "" : ",") + json_quoted(pins[i].first) + ":" + json_quoted(pins[i].second);
  }
  return out + "}}";
}

// The first thing in which the file's check and this one differ.
Result<void> compare_pins(const Json& header, const Pins& now, const std::string& where) {
  const Json* format = header.find("format");
  if (format == nullptr || format->text != kFormat) {
    return bad_input(where, "is no progress of a check", "\"format\": " + json_quoted(kFormat),
                     format == nullptr ? "" : format->brief());
  }
  const Json* then = header.find("pins");
  const auto refused = [&](const std::string& name, const std::string& before,
                           const std::string& after) {
    return bad_input(where, "is of another check and cannot be resumed: " + name + " differs",
                     before, after);
  };
  for (const auto& [name, value] : now) {
    const Json* before = then == nullptr ? nullptr : then->find(name);
    if (before == nullptr) return refused(name, "nothing", value);
    if (before->text != value) return refused(name, before->text, value);
  }
  if (then->names.size() != now.size()) {
    for (const std::string& name : then->names) {
      const bool known =
          std::any_of(now.begin(), now.end(), [&](auto& p) { return p.first == name; });
      if (!known) return refused(name, then->find(name)->text, "nothing");
    }
  }
  return {};
}

Error file_error(const std::filesystem::path& file, const char* what) {
  const int error = errno;
  const bool machine = error == ENOSPC || error == EDQUOT || error == EIO || error == EFBIG;
  return (machine ? machine_error : bad_input)(file.string(), what, "", errno_text(error));
}

}  // namespace

CheckProgress::CheckProgress(CheckProgress&& other) noexcept
    : file_(std::move(other.file_)),
      fd_(std::exchange(other.fd_, -1)),
      pins_(other.pins_),
      run_(other.run_),
      records_(std::move(other.records_)),
      known_(other.known_),
      all_plain_(other.all_plain_),
      appended_(other.appended_),
      synced_(other.synced_),
      kept_(other.kept_),
      keeping_(other.keeping_) {}

CheckProgress::~CheckProgress() {
  if (fd_ < 0) return;
  // Nothing was judged: whatever ended the check, there is nothing to go on from.
  if (known_ == 0 && !appended_) done();
  ::close(fd_);
}

Result<CheckProgress> CheckProgress::open(const std::filesystem::path& file, const Pins& pins,
                                          bool resume) {
  CheckProgress out;
  out.file_ = file;
  const std::string header = header_of(pins);
  out.pins_ = crc_of(header);
  out.synced_ = out.kept_ = std::chrono::steady_clock::now();
  out.fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  if (out.fd_ < 0) return file_error(file, "cannot be written");
  out.known_ = 1;  // until it is read: an error leaves the file as it is
  struct stat status{};
  if (::fstat(out.fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
    return bad_input(file.string(), "is no regular file", "a file for the progress");
  }
  if (::flock(out.fd_, LOCK_EX | LOCK_NB) != 0) {
    return bad_input(file.string(), "is in use by another check");
  }
  char begin[64] = {};
  const ssize_t got = ::pread(out.fd_, begin, sizeof begin, 0);
  const bool ours = std::string_view(begin, sizeof begin).find(kFormat) != std::string_view::npos;
  if (!resume && got > 0 && !ours) {  // begun anew, but not over somebody's other file
    ::close(std::exchange(out.fd_, -1));
    return bad_input(file.string(), "holds something else than the progress of a check",
                     "a new file, or one of an earlier check");
  }
  std::size_t whole = 0;  // bytes of lines that are as they were written
  if (resume) {
    PS_TRY(const std::string text, read_text(file));
    for (std::size_t line = 1; whole < text.size(); ++line) {
      const std::string where = file.string() + " line " + std::to_string(line);
      const std::size_t end = text.find('\n', whole);
      if (end == std::string::npos) break;  // torn: it was being written
      const auto content = unframed(std::string_view(text).substr(whole, end - whole));
      if (!content && end + 1 == text.size() && line > 1) break;
      if (!content) {
        return bad_input(where, "is damaged and cannot be resumed from",
                         "a line with its CRC-32 in front; without --resume the check begins anew");
      }
      if (line == 1) {
        PS_TRY(const Json json, parse_json(*content, where));
        PS_TRY_VOID(compare_pins(json, pins, file.string()));
      } else {
        PS_TRY(JudgedRecord record, read_record(*content, where));
        out.records_.push_back(std::move(record));
      }
      whole = end + 1;
    }
  }
  out.known_ = out.records_.size();
  if (::ftruncate(out.fd_, static_cast<off_t>(whole)) != 0 || ::lseek(out.fd_, 0, SEEK_END) < 0) {
    return file_error(file, "cannot be written");
  }
  std::error_code ignored;
  if (out.known_ == 0) std::filesystem::remove(out.own_run_file(), ignored);
  if (whole == 0) PS_TRY_VOID(out.write(header));
  return out;
}

Result<void> CheckProgress::write(const std::string& line) {
  const std::string text = framed(line);
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return file_error(file_, "cannot be written");
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  const auto now = std::chrono::steady_clock::now();
  if (now - synced_ < kSyncEvery) return {};
  if (::fdatasync(fd_) != 0) return file_error(file_, "cannot be synced");
  synced_ = now;
  return {};
}

Result<std::optional<JudgedRecord>> CheckProgress::next(std::int64_t step, const std::string& point,
                                                        const TensorView& candidate) {
  if (records_.empty()) return std::optional<JudgedRecord>();
  JudgedRecord record = std::move(records_.front());
  records_.pop_front();
  if (record.run != run_ || record.row.step != step || record.row.point != point) {
    return bad_input(file_.string(), "tells of another point than the one that comes next",
                     "step " + std::to_string(step) + " " + point,
                     "step " + std::to_string(record.row.step) + " " + record.row.point);
  }
  const std::uint32_t now = crc32_of(candidate.bytes);
  if (now != record.candidate) {
    return bad_input(file_.string(),
                     "cannot be resumed: the candidate computes something else than before at " +
                         point + " of step " + std::to_string(step),
                     "CRC-32 " + crc32_text(record.candidate), crc32_text(now));
  }
  all_plain_ = all_plain_ && record.note.plain;
  return std::optional<JudgedRecord>(std::move(record));
}

bool CheckProgress::knows(std::int64_t step, std::string_view point) const {
  return std::any_of(records_.begin(), records_.end(), [&](const JudgedRecord& r) {
    return r.run == 0 && r.row.step == step && r.row.point == point;
  });
}

Result<void> CheckProgress::append(JudgedRecord record, const TensorView& candidate) {
  record.run = run_;
  record.candidate = crc32_of(candidate.bytes);
  all_plain_ = all_plain_ && record.note.plain;
  appended_ = true;
  return write(record_line(record));
}

void CheckProgress::done() {
  std::error_code ignored;
  std::filesystem::remove(own_run_file(), ignored);
  std::filesystem::remove(file_, ignored);
}

}  // namespace ps
