// Exact tile summaries and FlexAttention's block tables.
#include <algorithm>

#include "diff/mask/tiles.h"

namespace ps::mask {

namespace {

// Adds one row's run [lo, hi), `times` over, to the counts of its tiles.
void add_run(std::vector<std::int64_t>& cells, std::vector<std::int64_t>& steps, std::int64_t bk,
             std::int64_t lo, std::int64_t hi, std::int64_t times) {
  const std::int64_t first = lo / bk, last = (hi - 1) / bk;
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  if (first == last) {
    cells[at(first)] += (hi - lo) * times;
    return;
  }
  cells[at(first)] += ((first + 1) * bk - lo) * times;
  cells[at(last)] += (hi - last * bk) * times;
  steps[at(first + 1)] += bk * times;  // whole tiles between, as a running sum
  steps[at(last)] -= bk * times;
}

void summarize_plane(const Bands& plane, BlockSummary& s, std::size_t out) {
  const std::vector<std::int64_t> cells = tile_counts(plane, s.dims.KV, s.bq, s.bk);
  std::size_t tile = 0;
  for (std::int64_t r = 0; r < s.nq; ++r) {
    const std::int64_t rows = std::min((r + 1) * s.bq, s.dims.Q) - r * s.bq;
    for (std::int64_t c = 0; c < s.nk; ++c, ++tile, ++out) {
      const std::int64_t real = rows * (std::min((c + 1) * s.bk, s.dims.KV) - c * s.bk);
      const auto fill = [have = cells[tile]](std::int64_t all) {
        return static_cast<std::uint8_t>(have == 0     ? Fill::kEmpty
                                         : have == all ? Fill::kFull
                                                       : Fill::kUnknown);
      };
      s.torch[out] = fill(s.bq * s.bk);
      s.inbounds[out] = fill(real);
    }
  }
}

BlockList list_of(const std::vector<std::uint8_t>& fills, Fill wanted, std::int64_t planes,
                  std::int64_t rows, std::int64_t columns, bool by_key) {
  BlockList out;
  const std::int64_t lists = planes * (by_key ? columns : rows), length = by_key ? rows : columns;
  for (std::int64_t l = 0; l < lists; ++l) {
    const std::int64_t plane = by_key ? l / columns : l / rows;
    const std::int64_t fixed = by_key ? l % columns : l % rows;
    const auto fill_at = [&](std::int64_t i) {
      const std::int64_t r = by_key ? i : fixed, c = by_key ? fixed : i;
      return static_cast<Fill>(fills[static_cast<std::size_t>((plane * rows + r) * columns + c)]);
    };
    std::int32_t num = 0;
    for (const bool taken : {true, false}) {
      for (std::int64_t i = 0; i < length; ++i) {
        if ((fill_at(i) == wanted) != taken) continue;
        out.indices.push_back(static_cast<std::int32_t>(i));
        num += taken ? 1 : 0;
      }
    }
    out.num.push_back(num);
  }
  return out;
}

}  // namespace

std::vector<std::int64_t> tile_counts(const Bands& plane, std::int64_t columns, std::int64_t bq,
                                      std::int64_t bk) {
  const std::int64_t rows = plane.end(), nq = (rows + bq - 1) / bq, nk = (columns + bk - 1) / bk;
  std::vector<std::int64_t> out;
  out.reserve(static_cast<std::size_t>(nq * nk));
  std::vector<std::int64_t> cells(static_cast<std::size_t>(nk)), steps(cells.size() + 1);
  std::size_t next = 0;
  for (std::int64_t r = 0; r < nq; ++r) {
    std::fill(cells.begin(), cells.end(), 0);
    std::fill(steps.begin(), steps.end(), 0);
    const std::int64_t begin = r * bq, end = std::min(begin + bq, rows);
    for (; next < plane.size(); ++next) {
      const Bands::Band band = plane[next];
      const std::int64_t from = std::max(begin, band.begin), to = std::min(end, band.end);
      for (const Run& run : band.runs) {
        const bool same = run.lo.slope() == 0 && run.hi.slope() == 0;
        for (std::int64_t row = from; row < (same ? std::min(from + 1, to) : to); ++row) {
          add_run(cells, steps, bk, run.lo.at(row), run.hi.at(row), same ? to - from : 1);
        }
      }
      if (band.end > end) break;
    }
    std::int64_t whole = 0;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      whole += steps[c];
      out.push_back(cells[c] + whole);
    }
  }
  return out;
}

BlockSummary::Totals BlockSummary::totals(EdgeRule rule) const {
  Totals out;
  for (const std::uint8_t f : fills(rule)) {
    ++(f == 0 ? out.empty : f == 1 ? out.partial : out.full);
  }
  return out;
}

BlockSummary summarize(const Mask& mask, std::int64_t bq, std::int64_t bk) {
  BlockSummary s;
  s.bq = bq;
  s.bk = bk;
  s.dims = mask.dims();
  s.nq = (s.dims.Q + bq - 1) / bq;
  s.nk = (s.dims.KV + bk - 1) / bk;
  const auto tiles = static_cast<std::size_t>(s.nq * s.nk);
  s.torch.resize(tiles * static_cast<std::size_t>(s.dims.B * s.dims.H));
  s.inbounds.resize(s.torch.size());
  std::map<const Bands*, std::size_t> done;
  std::size_t out = 0;
  for (std::int64_t b = 0; b < s.dims.B; ++b) {
    for (std::int64_t h = 0; h < s.dims.H; ++h, out += tiles) {
      const auto [it, fresh] = done.try_emplace(mask.shared(b, h).get(), out);
      if (fresh) {
        summarize_plane(mask.plane(b, h), s, out);
        continue;
      }
      std::copy_n(s.torch.data() + it->second, tiles, s.torch.data() + out);
      std::copy_n(s.inbounds.data() + it->second, tiles, s.inbounds.data() + out);
    }
  }
  return s;
}

BlockLists block_lists(const BlockSummary& s, EdgeRule rule) {
  const std::int64_t planes = s.dims.B * s.dims.H;
  const auto& fills = s.fills(rule);
  const auto list = [&](Fill wanted, bool by_key) {
    return list_of(fills, wanted, planes, s.nq, s.nk, by_key);
  };
  return {s.bq,
          s.bk,
          s.nq,
          s.nk,
          s.dims,
          list(Fill::kUnknown, false),
          list(Fill::kFull, false),
          list(Fill::kUnknown, true),
          list(Fill::kFull, true)};
}

Mask applied(const BlockLists& lists, const Mask& partial) {
  Mask out(lists.dims);
  std::int64_t row = 0;  // of the lists
  const auto tiles = [&](const BlockList& list, std::int64_t at, std::int64_t r) {
    // Ill-sorted or repeated indices are findings of their own (MK032); a kernel would still run.
    std::vector<Bands> parts;
    const std::int64_t end = std::min((r + 1) * lists.bq, lists.dims.Q);
    for (std::int64_t n = 0; n < list.num[static_cast<std::size_t>(at)] && n < lists.nk; ++n) {
      const std::int64_t c = list.indices[static_cast<std::size_t>(at * lists.nk + n)];
      if (c < 0 || c >= lists.nk) continue;
      parts.push_back(
          filled(r * lists.bq, end, c * lists.bk, std::min((c + 1) * lists.bk, lists.dims.KV)));
    }
    return unite(std::move(parts), r * lists.bq, end);
  };
  for (std::int64_t b = 0; b < lists.dims.B; ++b) {
    for (std::int64_t h = 0; h < lists.dims.H; ++h) {
      Bands full(0), some(0);
      for (std::int64_t r = 0; r < lists.nq; ++r, ++row) {
        full.append(tiles(lists.full, row, r));
        some.append(tiles(lists.partial, row, r));
      }
      some = combine(some, partial.plane(b, h), SetOp::kAnd);
      out.set(b, h, std::make_shared<const Bands>(combine(full, some, SetOp::kOr)));
    }
  }
  return out;
}

}  // namespace ps::mask
