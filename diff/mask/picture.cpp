#include "diff/mask/picture.h"

#include <algorithm>
#include <set>

#include "diff/mask/evaluate.h"
#include "diff/mask/tiles.h"

namespace ps::mask {

namespace {

// Every tile of the plane that is shown: allowed cells, and on how many two masks differ.
struct Tiles {
  std::int64_t bq = 1, bk = 1, nq = 0, nk = 0, rows = 0, columns = 0;
  std::vector<std::int64_t> allowed, leak, hidden;

  std::int64_t real(std::int64_t r, std::int64_t c) const {
    return (std::min((r + 1) * bq, rows) - r * bq) * (std::min((c + 1) * bk, columns) - c * bk);
  }
  std::size_t at(std::int64_t r, std::int64_t c) const {
    return static_cast<std::size_t>(r * nk + c);
  }
};

Tiles tiles_of(const View& v, std::int64_t most_rows, std::int64_t most_columns) {
  Tiles t;
  t.rows = v.mask->dims().Q;
  t.columns = v.mask->dims().KV;
  t.bq = std::max<std::int64_t>(1, (t.rows + most_rows - 1) / most_rows);
  t.bk = std::max<std::int64_t>(1, (t.columns + most_columns - 1) / most_columns);
  t.nq = (t.rows + t.bq - 1) / t.bq;
  t.nk = (t.columns + t.bk - 1) / t.bk;
  const auto count = [&](const Bands& plane) { return tile_counts(plane, t.columns, t.bq, t.bk); };
  const Bands& actual = v.mask->plane(v.batch, v.head);
  t.allowed = count(actual);
  if (v.expected == nullptr) {
    t.leak.resize(t.allowed.size());
    t.hidden.resize(t.allowed.size());
    return t;
  }
  const Bands& expected = v.expected->plane(v.batch, v.head);
  t.leak = count(combine(actual, expected, SetOp::kMinus));
  t.hidden = count(combine(expected, actual, SetOp::kMinus));
  return t;
}

void collect_ends(const Program& p, const Node& n, std::set<std::int64_t>& out) {
  for (const auto& [s, e] : n.bounds) out.insert({s, e - 1});
  if (n.op == Op::kGenerated && n.scalars[0].kind == Scalar::Kind::kInteger) {
    for (const std::int64_t d : {-1, 0, 1, 2}) out.insert(n.scalars[0].value + d);
  }
  const bool moved = n.op == Op::kShift || n.op == Op::kRemap;
  if (moved) return;
  if (n.op == Op::kRef) return collect_ends(p, resolved(p, n), out);
  for (const Node& a : n.args) collect_ends(p, a, out);
}

constexpr Color kPaper{255, 255, 255}, kInk{30, 30, 30}, kAllowed{68, 102, 153};
constexpr Color kLeak{205, 40, 20}, kHidden{20, 160, 230}, kEmptyRow{240, 170, 0},
    kMark{150, 150, 150};

Color mixed(Color a, Color b, double share) {
  const auto mix = [&](std::uint8_t x, std::uint8_t y) {
    return static_cast<std::uint8_t>(x + (y - x) * share + 0.5);
  };
  return {mix(a.r, b.r), mix(a.g, b.g), mix(a.b, b.b)};
}

}  // namespace

std::string terminal_picture(const View& v, std::int64_t most_rows, std::int64_t most_columns) {
  const Tiles t = tiles_of(v, most_rows, most_columns);
  const Bands& plane = v.mask->plane(v.batch, v.head);
  std::string out;
  const std::size_t width = std::to_string(t.rows).size();
  for (std::int64_t r = 0; r < t.nq; ++r) {
    std::string label = std::to_string(r * t.bq);
    out += std::string(width - std::min(width, label.size()), ' ') + label + " ";
    for (std::int64_t c = 0; c < t.nk; ++c) {
      const std::size_t i = t.at(r, c);
      const bool leak = t.leak[i] > 0, hidden = t.hidden[i] > 0;
      out += leak && hidden                 ? 'X'
             : leak                         ? 'L'
             : hidden                       ? 'H'
             : t.allowed[i] == 0            ? '.'
             : t.allowed[i] == t.real(r, c) ? '#'
                                            : '+';
    }
    bool empty = false;
    for (std::size_t n = plane.band_of(r * t.bq); n < plane.size(); ++n) {
      if (plane[n].begin >= std::min((r + 1) * t.bq, t.rows)) break;
      empty = empty || plane[n].runs.empty();
    }
    out += empty ? " !\n" : "\n";
  }
  out += std::string(width + 1, ' ') + "a letter is " + std::to_string(t.bq) + " x " +
         std::to_string(t.bk) + " pairs (query x key): # all allowed, . none";
  if (t.bq * t.bk > 1) out += ", + some";
  if (v.expected != nullptr) out += ", L leak, H hidden, X both";
  return out + ", ! a query without a key\n";
}

Image draw_mask(const View& v, int most_pixels) {
  const Tiles t = tiles_of(v, most_pixels, most_pixels);
  const std::int64_t longest = std::max<std::int64_t>({t.nq, t.nk, 1});
  const int cell = static_cast<int>(std::clamp<std::int64_t>(480 / longest, 1, 12));
  constexpr int kLeft = 24, kTop = 42;
  const int width = static_cast<int>(t.nk) * cell, height = static_cast<int>(t.nq) * cell;
  Image image(std::max(width, 300) + kLeft + 24, height + kTop + 30, kPaper);
  const auto box = [&](std::int64_t r, std::int64_t c) {
    return Box{kLeft + static_cast<int>(c) * cell, kTop + static_cast<int>(r) * cell, cell, cell};
  };
  for (std::int64_t r = 0; r < t.nq; ++r) {
    for (std::int64_t c = 0; c < t.nk; ++c) {
      const double share =
          static_cast<double>(t.allowed[t.at(r, c)]) / static_cast<double>(t.real(r, c));
      image.fill(box(r, c), mixed({235, 235, 235}, kAllowed, share));
    }
  }
  image.frame({kLeft - 1, kTop - 1, width + 2, height + 2}, kMark);
  // Errors last, at least 3 x 3 pixels each, so that no neighbour hides one.
  for (std::int64_t r = 0; r < t.nq; ++r) {
    for (std::int64_t c = 0; c < t.nk; ++c) {
      const bool leak = t.leak[t.at(r, c)] > 0, hidden = t.hidden[t.at(r, c)] > 0;
      if (!leak && !hidden) continue;
      Box b = box(r, c);
      const int grow = cell < 3 ? 1 : 0;
      b = {b.x - grow, b.y - grow, b.width + 2 * grow, b.height + 2 * grow};
      image.fill(b, leak ? kLeak : kHidden);
      if (leak && hidden) image.stripes(b, kHidden);
    }
  }
  const Bands& plane = v.mask->plane(v.batch, v.head);
  for (std::size_t n = 0; n < plane.size(); ++n) {
    if (!plane[n].runs.empty()) continue;
    const std::int64_t first = plane[n].begin / t.bq, last = (plane[n].end - 1) / t.bq;
    image.fill({kLeft + width + 3, kTop + static_cast<int>(first) * cell, 5,
                static_cast<int>(last - first + 1) * cell},
               kEmptyRow);
  }
  if (v.program != nullptr) {  // ticks where segments and generation begin and end
    std::set<std::int64_t> ends;
    collect_ends(*v.program, v.program->expr, ends);
    for (const std::int64_t x : ends) {
      const std::int64_t i = x - v.program->q_offset_of(v.batch), j = x - v.program->kv_offset;
      if (i >= 0 && i < t.rows) image.fill({kLeft - 6, box(i / t.bq, 0).y, 5, 1}, kMark);
      if (j >= 0 && j < t.columns) image.fill({box(0, j / t.bk).x, kTop - 6, 1, 5}, kMark);
    }
  }
  image.text(kLeft, 6,
             to_string(v.mask->dims()) + " batch " + std::to_string(v.batch) + " head " +
                 std::to_string(v.head),
             kInk);
  image.text(kLeft, 20,
             v.expected == nullptr ? "query down, key right; blue: allowed"
                                   : "red: leak, light blue: hidden, blue: allowed",
             kInk);
  image.text(
      kLeft, kTop + height + 8,
      "1 cell = " + std::to_string(t.bq) + " x " + std::to_string(t.bk) + " pairs; yellow: no key",
      kInk);
  return image;
}

std::vector<std::int64_t> positions_to_show(const Program* program, std::int64_t offset,
                                            std::int64_t size, std::size_t count) {
  std::set<std::int64_t> wanted = {offset, offset + size - 1};
  if (program != nullptr) collect_ends(*program, program->expr, wanted);
  std::set<std::int64_t> out;
  for (const std::int64_t x : wanted) {
    if (x >= offset && x < offset + size && out.size() < count) out.insert(x - offset);
  }
  // The middle of the widest gap, until there are enough.
  while (out.size() < count && static_cast<std::int64_t>(out.size()) < size) {
    std::int64_t widest = 0, at = 0;
    for (auto it = out.begin(); std::next(it) != out.end(); ++it) {
      const std::int64_t gap = *std::next(it) - *it;
      if (gap > widest) {
        widest = gap;
        at = *it + gap / 2;
      }
    }
    out.insert(at);
  }
  return {out.begin(), out.end()};
}

std::string sampled_text(const View& v) {
  const Dims& d = v.mask->dims();
  if (d.Q == 0 || d.KV == 0) return "no cell\n";
  const std::int64_t oq = v.program == nullptr ? 0 : v.program->q_offset_of(v.batch);
  const std::int64_t ok = v.program == nullptr ? 0 : v.program->kv_offset;
  const auto rows = positions_to_show(v.program, oq, d.Q),
             columns = positions_to_show(v.program, ok, d.KV);
  std::size_t width = 1;
  for (const std::int64_t i : rows) width = std::max(width, std::to_string(i + oq).size());
  for (const std::int64_t j : columns) width = std::max(width, std::to_string(j + ok).size());
  const auto padded = [&](const std::string& text) {
    return std::string(width + 1 - std::min(width, text.size()), ' ') + text;
  };
  std::string out = padded("q\\k");
  for (const std::int64_t j : columns) out += padded(std::to_string(j + ok));
  out += "\n";
  for (const std::int64_t i : rows) {
    out +=
        padded(std::to_string(i + oq)) +
        std::string(padded("q\\k").size() > width + 1 ? padded("q\\k").size() - width - 1 : 0, ' ');
    for (const std::int64_t j : columns) {
      const bool have = v.mask->at(v.batch, v.head, i, j);
      const bool want = v.expected == nullptr ? have : v.expected->at(v.batch, v.head, i, j);
      out += padded(have == want ? (have ? "#" : ".") : have ? "L" : "H");
    }
    out += "\n";
  }
  return out;
}

}  // namespace ps::mask
