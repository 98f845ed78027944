// Any bytes are a file of torch.save or an error, any bytes are a pickle of data or an error, and
// any bytes unpack to their size or not at all.
#include <cstddef>
#include <cstdint>
#include <span>

#include "diff/foreign/pickle.h"
#include "diff/foreign/torch_file.h"
#include "diff/foreign/zip.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ps;
  const std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data), size);
  const Result<TorchFile> file = parse_torch_file(input, nullptr, "x", "fuzz");
  if (file.ok()) {
    for (const NamedTensor& t : file->tensors) {
      require(static_cast<std::size_t>(t.view.count() * size_of(t.view.dtype)) ==
              t.view.bytes.size());
      if (t.view.count() > 0) static_cast<void>(value_at(t.view, t.view.count() - 1));
    }
  } else {
    require_line(file.error());
  }
  const Result<Pickle> pickle = parse_pickle(input, "fuzz");
  if (pickle.ok()) {
    require(pickle->root < pickle->values.size());
    for (const PickleValue& v : pickle->values) {
      for (const ValueId id : v.items) require(id < pickle->values.size());
    }
  } else {
    require_line(pickle.error());
  }
  const Result<std::vector<std::byte>> plain = inflate(input, size * 3, "fuzz");
  if (plain.ok()) {
    require(plain->size() == size * 3);
  } else {
    require_line(plain.error());
  }
  return 0;
}
