// Any bytes are a .npy, a .npz or an error; what was read has the bytes that its shape asks for.
#include <cstddef>
#include <cstdint>
#include <span>

#include "diff/foreign/npy.h"
#include "diff/foreign/read.h"
#include "diff/foreign/zip.h"
#include "tests/fuzz/require.h"

namespace {

void check(const ps::NamedTensor& t) {
  using ps::require;
  require(t.view.count() >= 0);
  require(static_cast<std::size_t>(t.view.count() * ps::size_of(t.view.dtype)) ==
          t.view.bytes.size());
  for (std::int64_t i = 0; i < t.view.count(); ++i) {
    static_cast<void>(ps::value_at(t.view, i));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ps;
  const std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data), size);
  if (looks_like_zip(input)) {
    const Result<std::vector<NamedTensor>> all = parse_npz(input, nullptr, "fuzz");
    if (!all.ok()) {
      require_line(all.error());
      return 0;
    }
    for (const NamedTensor& t : *all) check(t);
    return 0;
  }
  const Result<NamedTensor> one = parse_npy("x", input, nullptr, "fuzz");
  if (!one.ok()) {
    require_line(one.error());
    return 0;
  }
  check(*one);
  return 0;
}
