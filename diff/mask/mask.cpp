#include "diff/mask/mask.h"

#include <map>
#include <set>

namespace ps::mask {

namespace {

// A new mask whose planes are `make` of the planes of others; equal inputs are done once.
template <class Key, class KeyOf, class Make>
Mask each_plane(const Dims& dims, const KeyOf& key_of, const Make& make) {
  Mask out(dims);
  std::map<Key, std::shared_ptr<const Bands>> made;
  for (std::int64_t b = 0; b < dims.B; ++b) {
    for (std::int64_t h = 0; h < dims.H; ++h) {
      auto& plane = made[key_of(b, h)];
      if (plane == nullptr) plane = std::make_shared<const Bands>(make(b, h));
      out.set(b, h, plane);
    }
  }
  return out;
}

template <class F>
std::int64_t sum(const Mask& m, const F& of_plane) {
  std::map<const Bands*, std::int64_t> known;
  std::int64_t total = 0;
  for (std::int64_t b = 0; b < m.dims().B; ++b) {
    for (std::int64_t h = 0; h < m.dims().H; ++h) {
      const Bands* plane = m.shared(b, h).get();
      const auto it = known.find(plane);
      total += it != known.end() ? it->second : known[plane] = of_plane(*plane);
    }
  }
  return total;
}

}  // namespace

bool Mask::empty() const {
  for (const auto& p : planes_) {
    if (!p->empty()) return false;
  }
  return true;
}

std::int64_t Mask::count() const {
  return sum(*this, [](const Bands& p) { return p.count(); });
}

std::int64_t Mask::empty_rows() const {
  return sum(*this, [](const Bands& p) { return p.empty_rows(); });
}

std::optional<CellIndex> Mask::first() const {
  for (std::int64_t b = 0; b < dims_.B; ++b) {
    for (std::int64_t h = 0; h < dims_.H; ++h) {
      if (const auto cell = plane(b, h).first()) return CellIndex{b, h, cell->first, cell->second};
    }
  }
  return std::nullopt;
}

std::optional<RowIndex> Mask::first_empty_row() const {
  for (std::int64_t b = 0; b < dims_.B; ++b) {
    for (std::int64_t h = 0; h < dims_.H; ++h) {
      if (const auto row = plane(b, h).first_empty_row()) return RowIndex{b, h, *row};
    }
  }
  return std::nullopt;
}

std::size_t Mask::bytes() const {
  std::set<const Bands*> seen;
  std::size_t total = planes_.size() * sizeof(planes_[0]);
  for (const auto& p : planes_) {
    if (seen.insert(p.get()).second) total += p->bytes();
  }
  return total;
}

Mask combine(const Mask& a, const Mask& b, SetOp op) {
  PS_CHECK(a.dims() == b.dims(), "masks of different sizes");
  using Key = std::pair<const Bands*, const Bands*>;
  return each_plane<Key>(
      a.dims(),
      [&](std::int64_t x, std::int64_t h) {
        return Key(a.shared(x, h).get(), b.shared(x, h).get());
      },
      [&](std::int64_t x, std::int64_t h) { return combine(a.plane(x, h), b.plane(x, h), op); });
}

Mask complement(const Mask& a) {
  return each_plane<const Bands*>(
      a.dims(), [&](std::int64_t b, std::int64_t h) { return a.shared(b, h).get(); },
      [&](std::int64_t b, std::int64_t h) { return complement(a.plane(b, h), 0, a.dims().KV); });
}

Mask filled(const Dims& dims, bool value) {
  return each_plane<int>(
      dims, [](std::int64_t, std::int64_t) { return 0; },
      [&](std::int64_t, std::int64_t) { return filled(0, dims.Q, 0, value ? dims.KV : 0); });
}

bool equal(const Mask& a, const Mask& b) {
  return a.dims() == b.dims() && combine(a, b, SetOp::kXor).empty();
}

Mask transposed(const Mask& a) {
  PS_CHECK(a.dims().Q == a.dims().KV, "only a square mask keeps its size when transposed");
  return each_plane<const Bands*>(
      a.dims(), [&](std::int64_t b, std::int64_t h) { return a.shared(b, h).get(); },
      [&](std::int64_t b, std::int64_t h) { return transposed(a.plane(b, h), a.dims().KV); });
}

std::vector<std::uint8_t> to_bits(const Mask& mask) {
  const auto& [B, H, Q, KV] = mask.dims();
  std::vector<std::uint8_t> bits(static_cast<std::size_t>((B * H * Q * KV + 7) / 8));
  std::int64_t row_at = 0;
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t h = 0; h < H; ++h) {
      for (std::int64_t i = 0; i < Q; ++i, row_at += KV) {
        for (const auto& [lo, hi] : mask.plane(b, h).row(i)) {
          for (std::int64_t at = row_at + lo; at < row_at + hi; ++at) {
            bits[static_cast<std::size_t>(at / 8)] |= static_cast<std::uint8_t>(1 << (at % 8));
          }
        }
      }
    }
  }
  return bits;
}

}  // namespace ps::mask
