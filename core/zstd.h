// Zstandard, one frame at a time. A build may lack it: then has_zstd() is false, and nothing here
// is called.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "core/result.h"

namespace ps {

bool has_zstd();
Error no_zstd(const std::string& where);  // what to do about it

// Packs into `out`; the frame's size, or 0 where it would not fit.
std::size_t zstd_pack(std::span<const std::byte> raw, int level, std::span<std::byte> out);
// Unpacks one frame that must fill `out` exactly; what is wrong with it, or "". Never writes, nor
// holds, more than `out` and a fixed amount, whatever the frame says of itself.
std::string zstd_unpack(std::span<const std::byte> frame, std::span<std::byte> out);

}  // namespace ps
