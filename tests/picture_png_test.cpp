#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "core/rng.h"
#include "diff/picture/deflate.h"
#include "diff/picture/png.h"

namespace ps {
namespace {

// ---- a reader of PNG, written apart from the writer ------------------------------------------

class BitReader {
 public:
  explicit BitReader(std::string_view bytes) : bytes_(bytes) {}
  unsigned bit() {
    const auto byte = static_cast<unsigned char>(bytes_.at(at_ / 8));
    return byte >> (at_++ % 8) & 1U;
  }
  unsigned bits(int n) {
    unsigned value = 0;
    for (int i = 0; i < n; ++i) value |= bit() << i;
    return value;
  }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

// One block with the fixed code, by the tables of RFC 1951.
std::string inflate_fixed(std::string_view bytes) {
  static constexpr std::array kLength = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                         15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                         67, 83, 99, 115, 131, 163, 195, 227, 258};
  static constexpr std::array kLengthBits = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                             2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
  static constexpr std::array kDistance = {
      1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
      193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
  BitReader in(bytes);
  EXPECT_EQ(in.bits(1), 1U);
  EXPECT_EQ(in.bits(2), 1U);
  std::string out;
  while (true) {
    unsigned code = 0, symbol = 0;
    for (int length = 1;; ++length) {
      code = code << 1U | in.bit();
      if (length == 7 && code <= 0x17) {
        symbol = 256 + code;
      } else if (length == 8 && code >= 0x30 && code <= 0xbf) {
        symbol = code - 0x30;
      } else if (length == 8 && code >= 0xc0 && code <= 0xc7) {
        symbol = 280 + code - 0xc0;
      } else if (length == 9) {
        symbol = 144 + code - 0x190;
      } else {
        continue;
      }
      break;
    }
    if (symbol == 256) return out;
    if (symbol < 256) {
      out += static_cast<char>(symbol);
      continue;
    }
    const std::size_t l = symbol - 257;
    const unsigned length = static_cast<unsigned>(kLength.at(l)) + in.bits(kLengthBits.at(l));
    unsigned d = 0;
    for (int i = 0; i < 5; ++i) d = d << 1U | in.bit();
    const unsigned distance =
        static_cast<unsigned>(kDistance.at(d)) + in.bits(d < 2 ? 0 : static_cast<int>(d / 2 - 1));
    EXPECT_LE(distance, out.size());
    for (unsigned i = 0; i < length; ++i) out += out[out.size() - distance];
  }
}

std::string unzlib(std::string_view stream) {
  EXPECT_EQ(stream.substr(0, 2), std::string_view("\x78\x01", 2));
  return inflate_fixed(stream.substr(2));
}

std::string as_text(const std::vector<std::uint8_t>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string compressed(const std::string& text) {
  return as_text(zlib_compress({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
}

TEST(Deflate, AnyBytesComeBack) {
  const Rng rng(7, 0);
  std::vector<std::string> texts = {"", "a", "ab", "abcabcabcabc", std::string(70000, 'x')};
  std::string mixed;
  for (unsigned i = 0; i < 60000; ++i) {
    mixed += static_cast<char>(i % 700 < 350 ? rng.bits(i) : i / 350);
  }
  texts.push_back(mixed + mixed);  // repeats from further away than the window
  for (std::size_t length = 250; length < 270; ++length) texts.push_back(std::string(length, 'y'));
  for (const std::string& text : texts) EXPECT_EQ(unzlib(compressed(text)), text) << text.size();
}

TEST(Deflate, KnownStreamIsWrittenBitByBit) {
  // By hand: header 78 01; block bits 1, 10; 'a' = 0x91 in 8 bits, end = 0 in 7; Adler-32 of "a".
  EXPECT_EQ(compressed("a"), std::string("\x78\x01\x4b\x04\x00\x00\x62\x00\x62", 9));
}

TEST(Png, PixelsComeBackAndChunksHaveTheirSums) {
  Image image(3, 2, Color{255, 255, 255});
  image.set(1, 0, Color{200, 10, 20});
  image.set(2, 1, Color{0, 0, 0});
  const std::string png = png_bytes(image);
  EXPECT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1a\n");
  EXPECT_EQ(png.substr(12, 4), "IHDR");
  EXPECT_EQ(png.substr(16, 13), std::string("\0\0\0\3\0\0\0\2\x08\2\0\0\0", 13));
  // The sum over an empty IEND is the same in every PNG file.
  EXPECT_EQ(png.substr(png.size() - 8), std::string("IEND\xae\x42\x60\x82", 8));
  const std::size_t data = png.find("IDAT");
  const std::string rows = unzlib(std::string_view(png).substr(data + 4));
  ASSERT_EQ(rows.size(), 2U * (1 + 9));
  std::string above(9, '\0');
  for (std::size_t y = 0; y < 2; ++y) {
    EXPECT_EQ(rows[y * 10], 2);  // "up"
    for (std::size_t i = 0; i < 9; ++i) {
      above[i] = static_cast<char>(above[i] + rows[y * 10 + 1 + i]);
      EXPECT_EQ(static_cast<std::uint8_t>(above[i]), image.rgb()[y * 9 + i]) << y << " " << i;
    }
  }
}

TEST(Png, Base64HasTheVectorsOfItsStandard) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe"), "//4=");
}

}  // namespace
}  // namespace ps
