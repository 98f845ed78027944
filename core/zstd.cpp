#include "core/zstd.h"

#include <cstring>
#include <memory>

#ifdef PS_HAS_ZSTD
#include <zstd.h>
#endif

namespace ps {

Error no_zstd(const std::string& where) {
  return machine_error(where, "needs zstd, and this parscope was built without it",
                       "a build with Debian's libzstd-dev");
}

#ifdef PS_HAS_ZSTD

namespace {

constexpr std::size_t kMagicBytes = 4;
constexpr unsigned char kMagic[kMagicBytes] = {0x28, 0xb5, 0x2f, 0xfd};  // older frames have others

// One a thread: making one costs more than packing a small tensor.
ZSTD_CCtx* packer() {
  thread_local const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(),
                                                                                  ZSTD_freeCCtx);
  PS_CHECK(context != nullptr, "no memory for zstd");
  return context.get();
}
ZSTD_DCtx* unpacker() {
  thread_local const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                                  ZSTD_freeDCtx);
  PS_CHECK(context != nullptr, "no memory for zstd");
  return context.get();
}

}  // namespace

bool has_zstd() { return true; }

std::size_t zstd_pack(std::span<const std::byte> raw, int level, std::span<std::byte> out) {
  const std::size_t size =
      ZSTD_compressCCtx(packer(), out.data(), out.size(), raw.data(), raw.size(), level);
  return ZSTD_isError(size) != 0 ? 0 : size;
}

std::string zstd_unpack(std::span<const std::byte> frame, std::span<std::byte> out) {
  const unsigned long long says = ZSTD_getFrameContentSize(frame.data(), frame.size());
  if (frame.size() < kMagicBytes || std::memcmp(frame.data(), kMagic, kMagicBytes) != 0 ||
      says == ZSTD_CONTENTSIZE_ERROR) {
    return "no zstd frame";
  }
  if (says == ZSTD_CONTENTSIZE_UNKNOWN) return "a frame that does not say its size";
  if (says != out.size()) return "a frame of " + std::to_string(says) + " bytes";
  if (ZSTD_findFrameCompressedSize(frame.data(), frame.size()) != frame.size()) {
    return "a frame that ends elsewhere";
  }
  const std::size_t size =
      ZSTD_decompressDCtx(unpacker(), out.data(), out.size(), frame.data(), frame.size());
  if (ZSTD_isError(size) != 0) return ZSTD_getErrorName(size);
  if (size != out.size()) return std::to_string(size) + " bytes";
  return {};
}

#else

bool has_zstd() { return false; }
std::size_t zstd_pack(std::span<const std::byte>, int, std::span<std::byte>) { return 0; }
std::string zstd_unpack(std::span<const std::byte>, std::span<std::byte>) { return "no zstd"; }

#endif

}  // namespace ps
