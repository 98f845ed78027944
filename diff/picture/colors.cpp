#include "diff/picture/colors.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>

namespace ps {

namespace {

Color rgb(std::uint32_t hex) {
  return {static_cast<std::uint8_t>(hex >> 16U), static_cast<std::uint8_t>(hex >> 8U),
          static_cast<std::uint8_t>(hex)};
}

// Between evenly spaced stops; `share` is 0 at the first and 1 at the last.
Color between(std::span<const std::uint32_t> stops, double share) {
  const double at = std::clamp(share, 0.0, 1.0) * static_cast<double>(stops.size() - 1);
  const std::size_t i = std::min(static_cast<std::size_t>(at), stops.size() - 2);
  const double t = at - static_cast<double>(i);
  const Color a = rgb(stops[i]), b = rgb(stops[i + 1]);
  const auto mix = [t](std::uint8_t from, std::uint8_t to) {
    return static_cast<std::uint8_t>(std::lround(from + t * (to - from)));
  };
  return {mix(a.r, b.r), mix(a.g, b.g), mix(a.b, b.b)};
}

// On the light page the worst is darkest, on the dark page the worst is lightest.
constexpr std::array<std::uint32_t, 3> kWithinLight = {0xeaf1f8, 0xbcd5ec, 0x6fa3d4};
constexpr std::array<std::uint32_t, 4> kOverLight = {0xf2a33a, 0xdd6a1c, 0xb5300f, 0x67000d};
constexpr std::array<std::uint32_t, 3> kWithinDark = {0x1b2430, 0x22405f, 0x33658f};
constexpr std::array<std::uint32_t, 4> kOverDark = {0xc9641b, 0xe98a2b, 0xfabd4f, 0xfff0b0};

constexpr std::array<std::uint32_t, 10> kCividis = {0x00224e, 0x123570, 0x3b496c, 0x575d6d,
                                                    0x707173, 0x8a8678, 0xa59c74, 0xc3b369,
                                                    0xe1cc55, 0xfee838};

double luminance(Color c) {
  const auto linear = [](std::uint8_t v) {
    const double s = v / 255.0;
    return s <= 0.04045 ? s / 12.92 : std::pow((s + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * linear(c.r) + 0.7152 * linear(c.g) + 0.0722 * linear(c.b);
}

}  // namespace

const Palette& palette_of(Theme theme) {
  static const Palette kLight = {
      .background = rgb(0xffffff),
      .ink = rgb(0x1c2128),
      .faint_ink = rgb(0x68707a),
      .grid = rgb(0xd0d5da),
      .broken = rgb(0x1a1a1a),
      .propagated = rgb(0xb3aea6),
      .healed = rgb(0xa9dccb),
      .missing = rgb(0xffffff),
      .empty = rgb(0xf6f7f8),
  };
  static const Palette kDark = {
      .background = rgb(0x14181d),
      .ink = rgb(0xe6e9ed),
      .faint_ink = rgb(0x98a1ab),
      .grid = rgb(0x333b44),
      .broken = rgb(0xffffff),
      .propagated = rgb(0x6e6a64),
      .healed = rgb(0x2f7f69),
      .missing = rgb(0x14181d),
      .empty = rgb(0x191e24),
  };
  return theme == Theme::kLight ? kLight : kDark;
}

Color color_of_ratio(double ratio, Theme theme) {
  if (std::isnan(ratio)) return palette_of(theme).broken;
  const bool light = theme == Theme::kLight;
  constexpr double kDecadesWithin = 3, kDecadesOver = 6;
  if (ratio > 1) {
    const double share = std::log10(std::min(ratio, 1e300)) / kDecadesOver;
    return between(light ? kOverLight : kOverDark, share);
  }
  const double share = ratio > 0 ? 1 + std::log10(ratio) / kDecadesWithin : 0;
  return between(light ? kWithinLight : kWithinDark, share);
}

Color ink_on(Color background) {
  // Where the contrast to black and that to white are the same (WCAG).
  constexpr double kMiddle = 0.179;
  return luminance(background) > kMiddle ? Color{0, 0, 0} : Color{255, 255, 255};
}

Color cividis(double share) { return between(kCividis, share); }

}  // namespace ps
