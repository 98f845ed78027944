#include "diff/foreign/zip.h"

#include <optional>
#include <set>

#include "core/crc32.h"

namespace ps {

namespace {

constexpr std::uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr std::uint64_t kIn64 = 0xffffffff;
constexpr std::uint64_t kMostMembers = 1 << 20;

// Little-endian numbers at places that may lie outside: then nothing.
class Numbers {
 public:
  explicit Numbers(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::optional<std::uint64_t> get(std::uint64_t at, std::uint64_t size) const {
    if (at > bytes_.size() || size > bytes_.size() - at) return std::nullopt;
    std::uint64_t out = 0;
    for (std::uint64_t i = 0; i < size; ++i) {
      out |= std::to_integer<std::uint64_t>(bytes_[at + i]) << (8 * i);
    }
    return out;
  }
  std::uint64_t or_zero(std::uint64_t at, std::uint64_t size) const {
    return get(at, size).value_or(0);
  }

 private:
  std::span<const std::byte> bytes_;
};

struct Directory {
  std::uint64_t offset = 0, members = 0;
};

Result<Directory> find_directory(std::span<const std::byte> bytes, const std::string& where) {
  constexpr std::uint64_t kEndSize = 22, kLongestComment = 65535;
  const Numbers n(bytes);
  if (bytes.size() >= kEndSize) {
    const std::uint64_t last = bytes.size() - kEndSize;
    const std::uint64_t first = last > kLongestComment ? last - kLongestComment : 0;
    for (std::uint64_t at = last + 1; at-- > first;) {
      if (n.or_zero(at, 4) != kEnd) continue;
      Directory out{n.or_zero(at + 16, 4), n.or_zero(at + 10, 2)};
      if (at >= 20 && n.or_zero(at - 20, 4) == kLocator64) {
        const std::uint64_t end64 = n.or_zero(at - 12, 8);
        if (end64 > bytes.size() || n.or_zero(end64, 4) != kEnd64) {
          return bad_input(where, "is a broken zip archive: its zip64 directory is not there");
        }
        out = {n.or_zero(end64 + 48, 8), n.or_zero(end64 + 32, 8)};
      }
      return out;
    }
  }
  return bad_input(where, "is a broken zip archive: it has no directory (was it cut off?)");
}

// Sizes and offset that do not fit 32 bits stand in an extra field.
void read_extra64(const Numbers& n, std::uint64_t at, std::uint64_t end, std::uint64_t& size,
                  std::uint64_t& packed, std::uint64_t& offset) {
  while (at + 4 <= end) {
    const std::uint64_t id = n.or_zero(at, 2), length = n.or_zero(at + 2, 2);
    at += 4;
    if (id == 1) {
      std::uint64_t field = at;
      for (std::uint64_t* value : {&size, &packed, &offset}) {
        if (*value != kIn64 || field + 8 > at + length) continue;
        *value = n.or_zero(field, 8);
        field += 8;
      }
    }
    at += length;
  }
}

}  // namespace

bool looks_like_zip(std::span<const std::byte> bytes) {
  return Numbers(bytes).or_zero(0, 4) == kLocal;
}

Result<std::vector<ZipMember>> zip_members(std::span<const std::byte> bytes,
                                           const std::string& where) {
  PS_TRY(const Directory directory, find_directory(bytes, where));
  if (directory.members > kMostMembers) {
    return bad_input(where, "has too many members", std::to_string(kMostMembers),
                     std::to_string(directory.members));
  }
  const Numbers n(bytes);
  std::vector<ZipMember> out;
  std::set<std::string> names;
  std::uint64_t at = directory.offset, total = 0;
  for (std::uint64_t i = 0; i < directory.members; ++i) {
    const auto broken = [&](const std::string& what) {
      return bad_input(where, "is a broken zip archive: " + what, "",
                       "member " + std::to_string(i));
    };
    if (!n.get(at, 46) || n.or_zero(at, 4) != kCentral) return broken("its directory is cut off");
    const std::uint64_t flags = n.or_zero(at + 8, 2), method = n.or_zero(at + 10, 2);
    std::uint64_t packed = n.or_zero(at + 20, 4), size = n.or_zero(at + 24, 4);
    const std::uint64_t name_size = n.or_zero(at + 28, 2), extra = n.or_zero(at + 30, 2);
    std::uint64_t offset = n.or_zero(at + 42, 4);
    if (!n.get(at + 46, name_size + extra)) return broken("its directory is cut off");
    ZipMember m;
    m.name.assign(reinterpret_cast<const char*>(bytes.data()) + at + 46, name_size);
    m.crc = static_cast<std::uint32_t>(n.or_zero(at + 16, 4));
    read_extra64(n, at + 46 + name_size, at + 46 + name_size + extra, size, packed, offset);
    at += 46 + name_size + extra + n.or_zero(at + 32, 2);
    if ((flags & 1U) != 0) return bad_input(where, "has an encrypted member", "", m.name);
    if (method != 0 && method != 8) {
      return bad_input(where, "has a member packed in a way that parscope does not read",
                       "stored or deflated", m.name + ": method " + std::to_string(method));
    }
    if (!n.get(offset, 30) || n.or_zero(offset, 4) != kLocal) {
      return broken(m.name + " is not where the directory says");
    }
    const std::uint64_t data = offset + 30 + n.or_zero(offset + 26, 2) + n.or_zero(offset + 28, 2);
    if (!n.get(data, packed)) return broken(m.name + " is cut off");
    total += packed;
    if (total > bytes.size()) return broken("its members lie on one another");
    m.packed = bytes.subspan(data, packed);
    m.deflated = method == 8;
    m.size = size;
    if (!m.deflated && size != packed) return broken(m.name + " has two sizes");
    if (!names.insert(m.name).second) return broken(m.name + " is there twice");
    out.push_back(std::move(m));
  }
  return out;
}

Result<FileBytes> zip_data(const ZipMember& member, const std::shared_ptr<const void>& keep,
                           const std::string& where, Crc crc) {
  FileBytes out{member.packed, keep};
  if (member.deflated) {
    PS_TRY(std::vector<std::byte> plain, inflate(member.packed, member.size, where));
    auto kept = std::make_shared<std::vector<std::byte>>(std::move(plain));
    out = {std::span<const std::byte>(*kept), kept};
  }
  if (crc == Crc::kChecked && crc32_of(out.bytes) != member.crc) {
    return bad_input(where, "is damaged: its check sum is another one");
  }
  return out;
}

}  // namespace ps
