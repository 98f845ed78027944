#include "diff/mask/bands.h"

#include <utility>

namespace ps::mask {

namespace {

bool same_in(std::int64_t row, std::span<const Run> a, std::span<const Run> b) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].lo.at(row) != b[i].lo.at(row) || a[i].hi.at(row) != b[i].hi.at(row)) return false;
  }
  return true;
}

// The line through two neighbouring rows' columns, if its slope is allowed.
bool line(std::int64_t row, std::int64_t here, std::int64_t next, Edge& out) {
  const std::int64_t slope = next - here;
  if (slope < -1 || slope > 1) return false;
  out = Edge(here - slope * row, static_cast<int>(slope));
  return true;
}

bool result(SetOp op, bool a, bool b) {
  switch (op) {
    case SetOp::kAnd:
      return a && b;
    case SetOp::kOr:
      return a || b;
    case SetOp::kXor:
      return a != b;
    case SetOp::kMinus:
      return a && !b;
  }
  return false;
}

// The ends of a band's runs, one after the other.
Edge end_of(std::span<const Run> runs, std::size_t i) {
  return i % 2 == 0 ? runs[i / 2].lo : runs[i / 2].hi;
}

void sweep(std::span<const Run> a, std::span<const Run> b, SetOp op, std::int64_t row,
           std::int64_t& until, std::vector<Run>& out) {
  std::size_t i = 0, k = 0;
  bool inside = false;
  Edge lo;
  while (i < 2 * a.size() || k < 2 * b.size()) {
    std::int64_t order = i == 2 * a.size() ? -1 : 1;
    if (i < 2 * a.size() && k < 2 * b.size()) {
      order = compare(end_of(a, i), end_of(b, k), row, until);
    }
    const Edge here = order >= 0 ? end_of(a, i) : end_of(b, k);
    if (order >= 0) ++i;
    if (order <= 0) ++k;
    const bool now = result(op, i % 2 == 1, k % 2 == 1);
    if (now == inside) continue;
    if (now) lo = here;
    if (!now) out.push_back({lo, here});
    inside = now;
  }
}

}  // namespace

Bands::Band Bands::operator[](std::size_t i) const {
  const std::size_t from = i == 0 ? 0 : stored_[i - 1].runs_end;
  return {i == 0 ? first_ : stored_[i - 1].end, stored_[i].end,
          std::span(runs_).subspan(from, stored_[i].runs_end - from)};
}

std::size_t Bands::band_of(std::int64_t row) const {
  const auto it = std::upper_bound(stored_.begin(), stored_.end(), row,
                                   [](std::int64_t r, const Stored& s) { return r < s.end; });
  return static_cast<std::size_t>(it - stored_.begin());
}

std::vector<std::pair<std::int64_t, std::int64_t>> Bands::row(std::int64_t i) const {
  std::vector<std::pair<std::int64_t, std::int64_t>> out;
  for (const Run& r : (*this)[band_of(i)].runs) out.emplace_back(r.lo.at(i), r.hi.at(i));
  return out;
}

bool Bands::at(std::int64_t row, std::int64_t column) const {
  const auto runs = (*this)[band_of(row)].runs;
  const auto it = std::upper_bound(runs.begin(), runs.end(), column,
                                   [&](std::int64_t c, const Run& r) { return c < r.lo.at(row); });
  return it != runs.begin() && column < std::prev(it)->hi.at(row);
}

// Rows [row, end) hold `runs`: can the last band be read so that it goes on?
bool Bands::joins(std::int64_t row, std::int64_t end, std::span<const Run> runs) {
  if (stored_.empty()) return false;
  const Band last = (*this)[stored_.size() - 1];
  if (last.runs.size() != runs.size()) return false;
  if (std::equal(runs.begin(), runs.end(), last.runs.begin())) return true;
  const std::size_t from = runs_.size() - runs.size();
  if (end - row == 1 && same_in(row, last.runs, runs)) return true;
  if (last.end - last.begin > 1) return false;
  if (same_in(last.begin, last.runs, runs)) {  // the one row before fits the new runs
    std::copy(runs.begin(), runs.end(), runs_.begin() + static_cast<std::ptrdiff_t>(from));
    return true;
  }
  if (end - row > 1) return false;
  std::vector<Run> lines(runs.size());
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Run& before = last.runs[i];
    if (!line(last.begin, before.lo.at(last.begin), runs[i].lo.at(row), lines[i].lo)) return false;
    if (!line(last.begin, before.hi.at(last.begin), runs[i].hi.at(row), lines[i].hi)) return false;
  }
  std::copy(lines.begin(), lines.end(), runs_.begin() + static_cast<std::ptrdiff_t>(from));
  return true;
}

void Bands::append(std::int64_t end, std::span<const Run> runs) {
  const std::int64_t row = this->end();
  if (end <= row) return;
  if (joins(row, end, runs)) {
    stored_.back().end = end;
    return;
  }
  runs_.insert(runs_.end(), runs.begin(), runs.end());
  stored_.push_back({end, runs_.size()});
}

void Bands::append(const Bands& other) {
  for (std::size_t i = 0; i < other.size(); ++i) append(other[i].end, other[i].runs);
}

bool Bands::empty() const { return runs_.empty(); }

std::int64_t Bands::count() const {
  std::int64_t total = 0;
  for (std::size_t i = 0; i < size(); ++i) {
    const Band band = (*this)[i];
    const std::int64_t n = band.end - band.begin;
    for (const Run& r : band.runs) {  // the mean of the first and the last row's, n times
      const std::int64_t first = r.hi.at(band.begin) - r.lo.at(band.begin);
      const std::int64_t last = r.hi.at(band.end - 1) - r.lo.at(band.end - 1);
      total += n % 2 == 0 ? (first + last) * (n / 2) : (first + last) / 2 * n;
    }
  }
  return total;
}

std::optional<std::pair<std::int64_t, std::int64_t>> Bands::first() const {
  for (std::size_t i = 0; i < size(); ++i) {
    const Band band = (*this)[i];
    if (!band.runs.empty()) return std::pair{band.begin, band.runs[0].lo.at(band.begin)};
  }
  return std::nullopt;
}

std::int64_t Bands::empty_rows() const {
  std::int64_t total = 0;
  for (std::size_t i = 0; i < size(); ++i) {
    const Band band = (*this)[i];
    if (band.runs.empty()) total += band.end - band.begin;
  }
  return total;
}

std::optional<std::int64_t> Bands::first_empty_row() const {
  for (std::size_t i = 0; i < size(); ++i) {
    const Band band = (*this)[i];
    if (band.runs.empty()) return band.begin;
  }
  return std::nullopt;
}

Bands combine(const Bands& a, const Bands& b, SetOp op) {
  Bands out(a.begin());
  std::vector<Run> runs;
  std::size_t i = 0, k = 0;
  for (std::int64_t row = a.begin(); row < a.end();) {
    const Bands::Band left = a[i], right = b[k];
    std::int64_t until = std::min(left.end, right.end);
    runs.clear();
    sweep(left.runs, right.runs, op, row, until, runs);
    out.append(until, runs);
    row = until;
    if (row == left.end) ++i;
    if (row == right.end) ++k;
  }
  return out;
}

Bands filled(std::int64_t begin, std::int64_t end, std::int64_t lo, std::int64_t hi) {
  Bands out(begin);
  const Run run{Edge(lo, 0), Edge(hi, 0)};
  out.append(end, std::span(&run, lo < hi ? 1 : 0));
  return out;
}

Bands complement(const Bands& a, std::int64_t lo, std::int64_t hi) {
  return combine(filled(a.begin(), a.end(), lo, hi), a, SetOp::kXor);
}

Bands unite(std::vector<Bands> parts, std::int64_t begin, std::int64_t end) {
  if (parts.empty()) return filled(begin, end, 0, 0);
  for (std::size_t step = 1; step < parts.size(); step *= 2) {
    for (std::size_t i = 0; i + step < parts.size(); i += 2 * step) {
      parts[i] = combine(parts[i], parts[i + step], SetOp::kOr);
      parts[i + step] = Bands();
    }
  }
  return std::move(parts[0]);
}

namespace {

// The rows i of [begin, end) with lo(i) <= j < hi(i), for every j: at most one interval, whose ends
// are the latest beginning and the earliest end of a few lines in j.
Bands transposed_run(const Run& run, std::int64_t begin, std::int64_t end, std::int64_t columns) {
  std::vector<Edge> from = {Edge(begin, 0)}, to = {Edge(end, 0)};
  std::int64_t first = 0, last = columns;  // the rows of the result
  const std::int64_t lo = run.lo.base(), hi = run.hi.base();
  if (run.lo.slope() == 0) first = std::max(first, lo);
  if (run.lo.slope() > 0) to.emplace_back(1 - lo, 1);  // i <= j - lo
  if (run.lo.slope() < 0) from.emplace_back(lo, -1);   // i >= lo - j
  if (run.hi.slope() == 0) last = std::min(last, hi);
  if (run.hi.slope() > 0) from.emplace_back(1 - hi, 1);  // i >= j - hi + 1
  if (run.hi.slope() < 0) to.emplace_back(hi, -1);       // i <= hi - j - 1
  Bands out(0);
  first = std::min(std::max<std::int64_t>(first, 0), columns);
  last = std::max(first, last);
  out.append(first, {});
  for (std::int64_t row = first; row < last;) {
    std::int64_t until = last;
    Edge a = from[0], b = to[0];
    for (const Edge e : from) a = compare(a, e, row, until) > 0 ? e : a;
    for (const Edge e : to) b = compare(b, e, row, until) < 0 ? e : b;
    const Run r{a, b};
    out.append(until, std::span(&r, compare(a, b, row, until) > 0 ? 1 : 0));
    row = out.end();
  }
  out.append(columns, {});
  return out;
}

}  // namespace

Bands transposed(const Bands& a, std::int64_t columns) {
  std::vector<Bands> parts;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const Bands::Band band = a[i];
    for (const Run& r : band.runs) {
      parts.push_back(transposed_run(r, band.begin, band.end, columns));
    }
  }
  return unite(std::move(parts), 0, columns);
}

std::vector<std::pair<std::int64_t, std::int64_t>> columns_used(const Bands& a) {
  std::vector<std::pair<std::int64_t, std::int64_t>> all, out;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const Bands::Band band = a[i];
    // Ends move by at most one a row and no run is empty, so that neighbours' runs overlap or
    // touch.
    for (const Run& r : band.runs) {
      all.emplace_back(std::min(r.lo.at(band.begin), r.lo.at(band.end - 1)),
                       std::max(r.hi.at(band.begin), r.hi.at(band.end - 1)));
    }
  }
  std::sort(all.begin(), all.end());
  for (const auto& r : all) {
    if (!out.empty() && r.first <= out.back().second) {
      out.back().second = std::max(out.back().second, r.second);
    } else {
      out.push_back(r);
    }
  }
  return out;
}

}  // namespace ps::mask
