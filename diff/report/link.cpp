#include "diff/report/link.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <span>

namespace ps {

namespace {

constexpr std::string_view kScheme = "parscope:";
constexpr std::size_t kMostFields = 256;

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("-._:,/+*").find(c) != std::string_view::npos;
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (is_plain(c)) {
      out += c;
    } else {
      char hex[4];
      std::snprintf(hex, sizeof hex, "%%%02X", static_cast<unsigned char>(c));
      out += hex;
    }
  }
  return out;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result<std::string> unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return bad_input("link", "a % must be followed by two hex digits", "%20",
                       std::string(text.substr(i, 3)));
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

// FNV-1a, 64 bits, over parts that are kept apart.
class Hash {
 public:
  void bytes(std::span<const std::byte> data) {
    for (const std::byte b : data) {
      value_ = (value_ ^ static_cast<std::uint8_t>(b)) * 0x100000001b3ull;
    }
  }
  void text(std::string_view words) {
    number(static_cast<std::int64_t>(words.size()));
    bytes(std::as_bytes(std::span(words.data(), words.size())));
  }
  void number(std::int64_t n) { bytes(std::as_bytes(std::span(&n, 1))); }
  std::string hex() const {
    char out[17];
    std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(value_));
    return out;
  }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325ull;
};

// All bytes of a small tensor; of a large one 32 stretches of 32 bytes, ends included, so that a
// trace of gigabytes is told from its like without being read.
void add_sample(Hash& hash, std::span<const std::byte> bytes) {
  // Of a large tensor fewer: each piece may be a page that a disk has to bring.
  constexpr std::size_t kPiece = 32, kLarge = 1 << 20;
  const std::size_t pieces = bytes.size() > kLarge ? 8 : 32;
  if (bytes.size() <= pieces * kPiece) {
    hash.bytes(bytes);
    return;
  }
  const std::size_t last = bytes.size() - kPiece;
  for (std::size_t i = 0; i < pieces; ++i) {
    hash.bytes(bytes.subspan(last / (pieces - 1) * i, kPiece));
  }
  hash.bytes(bytes.subspan(last, kPiece));
}

void add_place(DeepLink& link, std::int64_t step, std::int64_t rank, const std::string& point,
               std::string_view where) {
  link.fields.emplace_back("step", std::to_string(step));
  link.fields.emplace_back("rank", std::to_string(rank));
  if (!point.empty()) link.fields.emplace_back("point", point);
  for (const auto& [axis, at] : coordinates_of(where)) {
    if (link.find(axis) == nullptr) link.fields.emplace_back(axis, std::to_string(at));
  }
}

}  // namespace

const std::string* DeepLink::find(std::string_view name) const {
  for (const auto& [field, value] : fields) {
    if (field == name) return &value;
  }
  return nullptr;
}

std::string to_string(const DeepLink& link) {
  std::string out(kScheme);
  out += link.capture;
  char separator = '?';
  for (const auto& [name, value] : link.fields) {
    out += separator + escaped(name) + "=" + escaped(value);
    separator = '&';
  }
  return out;
}

Result<DeepLink> parse_link(std::string_view text) {
  if (!text.starts_with(kScheme)) {
    return bad_input("link", "is no parscope link", "parscope:CAPTURE?step=0&point=...",
                     std::string(text.substr(0, 60)));
  }
  text.remove_prefix(kScheme.size());
  DeepLink link;
  const std::size_t question = text.find('?');
  link.capture = text.substr(0, question);
  const bool hex = std::all_of(link.capture.begin(), link.capture.end(),
                               [](char c) { return hex_digit(c) >= 0; });
  if (!link.capture.empty() && (link.capture.size() != 16 || !hex)) {
    return bad_input("link", "must name its capture", "16 hex digits, or nothing",
                     link.capture.substr(0, 40));
  }
  if (question == std::string_view::npos) return link;
  text.remove_prefix(question + 1);
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    if (part.empty()) continue;
    const std::size_t equals = part.find('=');
    if (equals == 0 || equals == std::string_view::npos) {
      return bad_input("link", "has a field that is no name=value", "step=0",
                       std::string(part.substr(0, 60)));
    }
    if (link.fields.size() == kMostFields) {
      return bad_input("link", "has too many fields", std::to_string(kMostFields) + " at most");
    }
    PS_TRY(std::string name, unescaped(part.substr(0, equals)));
    PS_TRY(std::string value, unescaped(part.substr(equals + 1)));
    link.fields.emplace_back(std::move(name), std::move(value));
  }
  return link;
}

std::string capture_of(const Report& report) {
  Hash hash;
  hash.text(to_string(report.verdict));
  for (const PointRow& row : report.points) {
    hash.number(row.step);
    hash.number(row.rank);
    hash.text(row.point);
    hash.text(to_string(row.shape));
    hash.text(to_string(row.status));
    hash.number(row.max_ulp);
  }
  for (const Finding& f : report.findings) {
    hash.text(f.id);
    hash.number(f.step);
    hash.number(f.rank);
    hash.text(f.point);
    hash.text(f.where);
  }
  return hash.hex();
}

std::string capture_of(const Trace& trace) {
  Hash hash;
  for (const TraceStep& step : trace.steps()) {
    hash.number(step.step);
    hash.number(step.rank);
    if (step.tensors == nullptr) continue;
    for (const SafetensorsFile::Entry& entry : step.tensors->entries()) {
      hash.text(entry.name);
      hash.text(safetensors_name(entry.view.dtype));
      hash.text(to_string(entry.view.shape));
      add_sample(hash, entry.view.bytes);
    }
  }
  return hash.hex();
}

std::vector<std::pair<std::string, std::int64_t>> coordinates_of(std::string_view where) {
  std::vector<std::pair<std::string, std::int64_t>> out;
  while (!where.empty()) {
    const std::string_view word = where.substr(0, where.find_first_of(" ,;"));
    where.remove_prefix(std::min(word.size() + 1, where.size()));
    const std::size_t equals = word.find('=');
    if (equals == 0 || equals == std::string_view::npos) continue;
    std::int64_t at = 0;
    const char* end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data() + equals + 1, end, at);
    if (error != std::errc{} || stop != end || at < 0) continue;
    out.emplace_back(word.substr(0, equals), at);
  }
  return out;
}

DeepLink link_to(const std::string& capture, const Finding& finding) {
  DeepLink link{capture, {}};
  add_place(link, finding.step, finding.rank, finding.point, finding.where);
  return link;
}
DeepLink link_to(const std::string& capture, const PointRow& row) {
  DeepLink link{capture, {}};
  add_place(link, row.step, row.rank, row.point, "");
  return link;
}
DeepLink link_to(const std::string& capture, const FirstDivergence& place) {
  DeepLink link{capture, {}};
  add_place(link, place.step, place.rank, place.point, place.where);
  return link;
}

}  // namespace ps
