// Any bytes are a packed file or an error. Of a file, every tensor can be read or is an error, and
// the whole is unpacked exactly where every tensor can be read, to a safetensors file that holds
// the same. Checksums would turn nearly every mutation away: so the bytes are also taken apart into
// header and blocks ([length 2][bytes], ...) and put together again under checksums that are right.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/packed.h"
#include "core/safetensors.h"
#include "tests/fuzz/require.h"
#include "tests/support/raw_packed.h"

namespace ps {
namespace {

constexpr std::int64_t kMostUnpacked = 16 << 20;

void try_file(std::span<const std::byte> input) {
  const Result<PackedFile> file = PackedFile::parse(input, "fuzz");
  if (!file.ok()) return require_line(file.error());
  require(file->plain_size() >= 0);
  // So little memory stands for each byte of a file that a short one cannot ask for much.
  require(file->plain_size() / kPackedBlock <= static_cast<std::int64_t>(input.size()));
  if (file->plain_size() > kMostUnpacked) return;
  bool all = true;
  std::vector<std::vector<std::byte>> values;
  for (std::size_t i = 0; i < file->tensors().size(); ++i) {
    const TensorHeader& t = file->tensors()[i];
    values.emplace_back(static_cast<std::size_t>(t.end - t.begin));
    const Result<void> read = file->read(i, values.back());
    if (!read.ok()) require_line(read.error());
    all = all && read.ok();
  }
  const Result<UnpackedFile> unpacked = UnpackedFile::of(input, "fuzz");
  require(unpacked.ok() == all);
  if (!all) return require_line(unpacked.error());
  require(static_cast<std::int64_t>(unpacked->bytes().size()) == file->plain_size());
  const Result<SafetensorsFile> plain = SafetensorsFile::parse(unpacked->bytes(), "fuzz");
  if (!plain.ok()) return require_line(plain.error());  // a header that begins with a space
  require(plain->entries().size() == values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const SafetensorsFile::Entry& entry = plain->entries()[i];
    require(entry.name == file->tensors()[i].name);
    require(std::equal(values[i].begin(), values[i].end(), entry.view.bytes.begin(),
                       entry.view.bytes.end()));
  }
}

std::uint64_t number_of(std::string_view bytes) {
  std::uint64_t x = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    x |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  return x;
}

// With checksums that are right.
std::string put_together(std::string_view bytes) {
  constexpr std::size_t kBegin = 24;
  const std::uint64_t data_size = number_of(bytes.substr(8, 8));
  const auto length =
      std::min<std::uint64_t>(number_of(bytes.substr(16, 8)), bytes.size() - kBegin);
  const std::string_view header = bytes.substr(kBegin, static_cast<std::size_t>(length));
  std::string_view rest = bytes.substr(kBegin + header.size());
  std::vector<std::string> blocks;
  while (rest.size() > 2) {
    const std::string_view block =
        rest.substr(2, static_cast<std::size_t>(number_of(rest.substr(0, 2))));
    blocks.emplace_back(block);
    rest.remove_prefix(2 + block.size());
  }
  return raw_packed(header, data_size, blocks);
}

}  // namespace
}  // namespace ps

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ps;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try_file(bytes_of(text));
  if (size >= 24) {
    const std::string whole = put_together(text);
    try_file(bytes_of(whole));
  }
  return 0;
}
