// zlib streams (RFC 1950, 1951) written by plain code: pictures in a report are the same bytes
// wherever it is made, which a shared zlib does not promise.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ps {

std::vector<std::uint8_t> zlib_compress(std::span<const std::uint8_t> bytes);

}  // namespace ps
