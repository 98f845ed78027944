#include "viewer/present/soft.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <imgui.h>

#include "viewer/present/covers.h"
#include "viewer/present/shapes.h"

namespace ps::viewer {

namespace {

// a * b / 255, rounded, for bytes.
std::uint32_t times(std::uint32_t a, std::uint32_t b) {
  const std::uint32_t t = a * b + 128;
  return (t + (t >> 8)) >> 8;
}

std::uint32_t modulated(std::uint32_t a, std::uint32_t b) {
  if (a == 0xffffffffu) return b;
  if (b == 0xffffffffu) return a;
  return times(a & 255, b & 255) | times((a >> 8) & 255, (b >> 8) & 255) << 8 |
         times((a >> 16) & 255, (b >> 16) & 255) << 16 | times(a >> 24, b >> 24) << 24;
}

inline void blend(std::uint32_t& pixel, std::uint32_t color) {
  const std::uint32_t alpha = color >> 24;
  if (alpha == 0) return;
  if (alpha == 255) {
    pixel = color;
    return;
  }
  const std::uint32_t rest = 255 - alpha;
  const std::uint32_t r = times(color & 255, alpha) + times(pixel & 255, rest);
  const std::uint32_t g = times((color >> 8) & 255, alpha) + times((pixel >> 8) & 255, rest);
  const std::uint32_t b = times((color >> 16) & 255, alpha) + times((pixel >> 16) & 255, rest);
  pixel = std::min(r, 255u) | std::min(g, 255u) << 8 | std::min(b, 255u) << 16 | 0xff000000u;
}

class Painter {
 public:
  // Fills leave out what covers that are still to come will hide.
  Painter(Frame& frame, const Clip& clip, const Texture& texture, std::span<const Cover> covers)
      : frame_(frame), clip_(clip), texture_(texture), covers_(covers) {}
  // Before each shape: the covers after it, and whether it is an image that is one.
  void next(std::span<const Cover> covers, bool opaque_image) {
    covers_ = covers;
    image_is_opaque_ = opaque_image;
  }

  // False: it is none.
  bool rectangle(const ImDrawVert& a, const ImDrawVert& b, const ImDrawVert& c,
                 const ImDrawVert& d) {
    if (!is_rectangle(a, b, c, d)) return false;
    const auto [x0, y0, x1, y1] = pixels_of(a, c, clip_);
    if (x0 >= x1 || y0 >= y1) return true;
    if (a.uv.x == c.uv.x && a.uv.y == c.uv.y) {
      flat(x0, y0, x1, y1, modulated(a.col, texture_.at(a.uv.x, a.uv.y)));
    } else {
      textured(a, c, x0, y0, x1, y1);
    }
    return true;
  }

  void flat(int x0, int y0, int x1, int y1, std::uint32_t color) {
    for (int y = y0; y < y1; ++y) fill(y, x0, x1, color);
  }

  void triangle(const ImDrawVert& a, const ImDrawVert& b, const ImDrawVert& c) {
    // Fixed point, 8 bits: what is inside does not depend on how the edges are rounded.
    std::array<const ImDrawVert*, 3> p = {&a, &b, &c};
    std::array<std::int64_t, 3> x{}, y{};
    for (std::size_t i = 0; i < 3; ++i) {
      x[i] = std::lrint(p[i]->pos.x * 256.0f);
      y[i] = std::lrint(p[i]->pos.y * 256.0f);
    }
    std::int64_t area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0]);
    if (area == 0) return;
    if (area < 0) {
      std::swap(x[1], x[2]);
      std::swap(y[1], y[2]);
      std::swap(p[1], p[2]);
      area = -area;
    }
    const auto [left, right] = std::minmax({x[0], x[1], x[2]});
    const auto [top, bottom] = std::minmax({y[0], y[1], y[2]});
    const int x0 = std::max<int>(clip_.x0, static_cast<int>(left >> 8));
    const int x1 = std::min<int>(clip_.x1, static_cast<int>(right >> 8) + 1);
    const int y0 = std::max<int>(clip_.y0, static_cast<int>(top >> 8));
    const int y1 = std::min<int>(clip_.y1, static_cast<int>(bottom >> 8) + 1);
    if (x0 >= x1 || y0 >= y1) return;
    // w[k] >= 0 on the inner side of the edge opposite of k; on the edge itself only for the top
    // and the left one, so that neighbours never share a pixel.
    std::array<std::int64_t, 3> row{}, step_x{}, step_y{}, least{};
    for (std::size_t k = 0; k < 3; ++k) {
      const std::size_t i = (k + 1) % 3, j = (k + 2) % 3;
      const std::int64_t dx = x[j] - x[i], dy = y[j] - y[i];
      row[k] = dx * (y0 * 256 + 128 - y[i]) - dy * (x0 * 256 + 128 - x[i]);
      step_x[k] = -dy * 256;
      step_y[k] = dx * 256;
      least[k] = dy < 0 || (dy == 0 && dx > 0) ? 0 : 1;
    }
    const Shade shade(*this, p, area);
    for (int py = y0; py < y1; ++py) {
      const auto [first, last] = inside(row, step_x, least, x1 - x0);
      if (first < last && shade.is_flat()) {
        fill(py, x0 + static_cast<int>(first), x0 + static_cast<int>(last), shade.at(row));
      } else if (first < last) {
        std::uint32_t* line = line_of(py) + x0;
        std::array<std::int64_t, 3> w = row;
        for (std::size_t k = 0; k < 3; ++k) w[k] += step_x[k] * first;
        for (std::int64_t n = first; n < last; ++n) {
          blend(line[n], shade.at(w));
          for (std::size_t k = 0; k < 3; ++k) w[k] += step_x[k];
        }
      }
      for (std::size_t k = 0; k < 3; ++k) row[k] += step_y[k];
    }
  }

 private:
  // The next pixels of a row, from x on, that a cover will hide; none: [last, last).
  std::pair<int, int> next_hidden(int x, int last, int y) const {
    std::pair<int, int> next = {last, last};
    for (const Cover& cover : covers_) {
      const Clip& a = cover.area;
      if (y < a.y0 || y >= a.y1 || a.x1 <= x || std::max(a.x0, x) >= next.first) continue;
      next = {std::max(a.x0, x), a.x1};
    }
    return next;
  }

  // The pixels [first, last) of `count` where every weight is as large as it must be.
  static std::pair<std::int64_t, std::int64_t> inside(const std::array<std::int64_t, 3>& weights,
                                                      const std::array<std::int64_t, 3>& steps,
                                                      const std::array<std::int64_t, 3>& least,
                                                      std::int64_t count) {
    std::int64_t first = 0, last = count;
    for (std::size_t k = 0; k < 3; ++k) {
      const std::int64_t lacks = least[k] - weights[k], step = steps[k];
      if (step == 0) {
        if (lacks > 0) return {0, 0};
      } else if (step > 0) {
        if (lacks > 0) first = std::max(first, (lacks + step - 1) / step);
      } else {
        if (lacks > 0) return {0, 0};
        last = std::min(last, -lacks / -step + 1);
      }
    }
    return {first, last};
  }

  // The pixels [x, last) of row y that will be seen.
  void fill(int y, int x, int last, std::uint32_t color) {
    std::uint32_t* line = line_of(y);
    const std::uint32_t alpha = color >> 24;
    while (x < last && alpha != 0) {
      const auto [begin, end] = next_hidden(x, last, y);
      if (alpha == 255) {
        std::fill(line + x, line + begin, color);
      } else {
        for (; x < begin; ++x) blend(line[x], color);
      }
      x = end;
    }
  }

  // The colour inside a triangle, by its three weights.
  class Shade {
   public:
    Shade(const Painter& painter, const std::array<const ImDrawVert*, 3>& p, std::int64_t area)
        : painter_(painter), p_(p), area_(area) {
      one_color_ = p[0]->col == p[1]->col && p[0]->col == p[2]->col;
      one_texel_ = p[0]->uv.x == p[1]->uv.x && p[0]->uv.x == p[2]->uv.x &&
                   p[0]->uv.y == p[1]->uv.y && p[0]->uv.y == p[2]->uv.y;
      texel_ = painter.texture_.at(p[0]->uv.x, p[0]->uv.y);
    }
    bool is_flat() const { return one_color_ && one_texel_; }
    std::uint32_t at(const std::array<std::int64_t, 3>& w) const {
      std::uint32_t color = p_[0]->col;
      if (!one_color_) {
        color = 0;
        for (unsigned s = 0; s < 32; s += 8) {
          std::int64_t sum = area_ / 2;
          for (std::size_t k = 0; k < 3; ++k) {
            sum += w[k] * static_cast<std::int64_t>((p_[k]->col >> s) & 255);
          }
          color |= static_cast<std::uint32_t>(std::clamp<std::int64_t>(sum / area_, 0, 255)) << s;
        }
      }
      if (one_texel_) return modulated(color, texel_);
      float u = 0, v = 0;
      for (std::size_t k = 0; k < 3; ++k) {
        const float share = static_cast<float>(w[k]) / static_cast<float>(area_);
        u += p_[k]->uv.x * share;
        v += p_[k]->uv.y * share;
      }
      return modulated(color, painter_.texture_.at(u, v));
    }

   private:
    const Painter& painter_;
    const std::array<const ImDrawVert*, 3>& p_;
    std::int64_t area_;
    bool one_color_ = false, one_texel_ = false;
    std::uint32_t texel_ = 0;
  };

  std::uint32_t* line_of(int y) const {
    return frame_.pixels.data() +
           static_cast<std::size_t>(y) * static_cast<std::size_t>(frame_.width);
  }

  void textured(const ImDrawVert& a, const ImDrawVert& c, int x0, int y0, int x1, int y1) {
    const Texels texels_of(a, c, texture_);
    columns_.resize(static_cast<std::size_t>(x1 - x0));
    for (int x = x0; x < x1; ++x) {
      columns_[static_cast<std::size_t>(x - x0)] = texels_of.column(x);
    }
    bool one_to_one = true;
    for (std::size_t i = 1; i < columns_.size(); ++i)
      one_to_one = one_to_one && columns_[i] == columns_[i - 1] + 1;
    for (int y = y0; y < y1; ++y) {
      std::uint32_t* line = line_of(y);
      const int row = texels_of.row(y);
      if (const std::uint8_t* texels = a.col == 0xffffffffu ? texture_.colors(row) : nullptr) {
        const std::uint8_t* from = texels + static_cast<std::ptrdiff_t>(columns_[0]) * 4;
        if (one_to_one && (image_is_opaque_ || is_opaque(from, columns_.size()))) {
          std::memcpy(line + x0, from, columns_.size() * 4);
          continue;
        }
        for (int x = x0; x < x1; ++x) {
          std::uint32_t texel = 0;
          std::memcpy(
              &texel,
              texels + static_cast<std::ptrdiff_t>(columns_[static_cast<std::size_t>(x - x0)]) * 4,
              sizeof texel);
          blend(line[x], texel);
        }
        continue;
      }
      for (int x = x0; x < x1; ++x) {
        const std::uint32_t texel = texture_.at(columns_[static_cast<std::size_t>(x - x0)], row);
        if (texel >> 24 == 0) continue;  // most of a letter's rectangle
        blend(line[x], modulated(a.col, texel));
      }
    }
  }

  Frame& frame_;
  Clip clip_;
  const Texture& texture_;
  std::span<const Cover> covers_;
  bool image_is_opaque_ = false;  // the one that is drawn now
  std::vector<int> columns_;
};

// `covers`: those that are still to come.
void paint(const ImDrawList& list, const ImDrawCmd& command, Frame& frame,
           std::span<const Cover>& covers) {
  const Clip clip = clip_of(command, frame);
  if (clip.x0 >= clip.x1 || clip.y0 >= clip.y1) return;
  const Texture texture(command.TexRef._TexData);
  Painter painter(frame, clip, texture, covers);
  each_shape(
      list, command,
      [&](const ImDrawVert& a, const ImDrawVert& b, const ImDrawVert& c, const ImDrawVert* d) {
        const bool is_cover = !covers.empty() && &a == covers.front().corner;
        const bool opaque_image = is_cover && covers.front().image;
        if (is_cover) covers = covers.subspan(1);
        painter.next(covers, opaque_image);
        if (d != nullptr && painter.rectangle(a, b, c, *d)) return true;
        painter.triangle(a, b, c);
        return false;
      });
}

}  // namespace

void Frame::resize(int w, int h) {
  width = w;
  height = h;
  pixels.resize(static_cast<std::size_t>(w) * static_cast<std::size_t>(h));
}

Image Frame::image() const {
  Image image(width, height, Color{});
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const std::uint32_t p = pixels[static_cast<std::size_t>(y) * static_cast<std::size_t>(width) +
                                     static_cast<std::size_t>(x)];
      image.set(x, y,
                {static_cast<std::uint8_t>(p), static_cast<std::uint8_t>(p >> 8),
                 static_cast<std::uint8_t>(p >> 16)});
    }
  }
  return image;
}

void accept_textures(ImDrawData& data) {
  if (data.Textures == nullptr) return;
  for (ImTextureData* texture : *data.Textures) {
    if (texture->Status == ImTextureStatus_WantDestroy) {
      texture->SetTexID(ImTextureID_Invalid);
      texture->SetStatus(ImTextureStatus_Destroyed);
    } else if (texture->Status != ImTextureStatus_OK &&
               texture->Status != ImTextureStatus_Destroyed) {
      texture->SetTexID(static_cast<ImTextureID>(reinterpret_cast<std::intptr_t>(texture)));
      texture->SetStatus(ImTextureStatus_OK);
    }
  }
}

void rasterise(const ImDrawData& data, Frame& frame, std::uint32_t background) {
  const std::vector<Cover> covers = covers_of(data, frame);
  std::span<const Cover> to_come = covers;
  const Texture none(nullptr);
  Painter(frame, {0, 0, frame.width, frame.height}, none, to_come)
      .flat(0, 0, frame.width, frame.height, background);
  for (const ImDrawList* list : data.CmdLists) {
    for (const ImDrawCmd& command : list->CmdBuffer) {
      if (command.UserCallback == nullptr) paint(*list, command, frame, to_come);
    }
  }
}

}  // namespace ps::viewer
