// Any bytes are a safetensors file or an error. Of a file, every tensor has the bytes its shape
// asks for, they can be read as elements, and together they fill the data exactly.
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/safetensors.h"
#include "core/tensor.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ps;
  const std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data), size);
  const Result<SafetensorsFile> file = SafetensorsFile::parse(input, "fuzz");
  if (!file.ok()) {
    require_line(file.error());
    return 0;
  }
  std::uint64_t header = 0;
  for (std::size_t i = 0; i < 8; ++i) header |= std::uint64_t{data[i]} << (8 * i);
  const std::byte* begin = input.data() + 8 + header;
  const std::byte* end = input.data() + size;
  std::size_t total = 0;
  for (const SafetensorsFile::Entry& entry : file->entries()) {
    const TensorView& view = entry.view;
    require(file->find(entry.name) == &view);
    require(view.count() >= 0);
    require(static_cast<std::size_t>(view.count() * size_of(view.dtype)) == view.bytes.size());
    const auto address = reinterpret_cast<std::uintptr_t>(view.bytes.data());
    require(address % static_cast<std::uintptr_t>(size_of(view.dtype)) == 0);
    // A view lies in the input, behind what came before, or it is a copy of an unaligned tensor.
    const std::byte* expected = begin + total;
    const auto unaligned = reinterpret_cast<std::uintptr_t>(expected) %
                           static_cast<std::uintptr_t>(size_of(view.dtype));
    if (!view.bytes.empty()) require((view.bytes.data() == expected) == (unaligned == 0));
    require(view.bytes.size() <= static_cast<std::size_t>(end - expected));
    for (std::size_t i = 0; i < view.bytes.size(); ++i) require(view.bytes[i] == expected[i]);
    for (std::int64_t i = 0; i < view.count(); ++i) static_cast<void>(value_at(view, i));
    total += view.bytes.size();
  }
  require(begin + total == end);
  return 0;
}
