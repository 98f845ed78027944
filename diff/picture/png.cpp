#include "diff/picture/png.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "diff/picture/deflate.h"

namespace ps {

namespace {

void put_u32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xffU);
}

std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t crc = 0xffffffffU;
  for (const char c : bytes) {
    crc ^= static_cast<std::uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1U ^ ((crc & 1U) != 0 ? 0xedb88320U : 0U);
  }
  return ~crc;
}

void put_chunk(std::string& out, std::string_view type, std::string_view data) {
  put_u32(out, static_cast<std::uint32_t>(data.size()));
  const std::string body = std::string(type).append(data);
  out += body;
  put_u32(out, crc32(body));
}

// Each row with the filter "up": what repeats the row above becomes zeros.
std::vector<std::uint8_t> filtered(const Image& image) {
  const auto row_bytes = static_cast<std::size_t>(image.width()) * 3;
  const std::vector<std::uint8_t>& rgb = image.rgb();
  std::vector<std::uint8_t> out;
  out.reserve(rgb.size() + static_cast<std::size_t>(image.height()));
  for (std::size_t at = 0; at < rgb.size(); at += row_bytes) {
    out.push_back(2);
    for (std::size_t i = at; i < at + row_bytes; ++i) {
      const int above = at == 0 ? 0 : rgb[i - row_bytes];
      out.push_back(static_cast<std::uint8_t>(rgb[i] - above));
    }
  }
  return out;
}

}  // namespace

std::string png_bytes(const Image& image) {
  std::string out = "\x89PNG\r\n\x1a\n";
  std::string header;
  put_u32(header, static_cast<std::uint32_t>(image.width()));
  put_u32(header, static_cast<std::uint32_t>(image.height()));
  header += std::string("\x08\x02\x00\x00\x00", 5);  // 8 bits, RGB, deflate, filters, no interlace
  put_chunk(out, "IHDR", header);
  const std::vector<std::uint8_t> data = zlib_compress(filtered(image));
  put_chunk(out, "IDAT", {reinterpret_cast<const char*>(data.data()), data.size()});
  put_chunk(out, "IEND", "");
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t three = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      three = three << 8U | (i + k < bytes.size() ? static_cast<std::uint8_t>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += i + k <= bytes.size() ? kDigits[three >> (18 - 6 * k) & 63U] : '=';
    }
  }
  return out;
}

}  // namespace ps
