#include "diff/report/strip.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "core/points.h"

namespace ps {

namespace {

constexpr std::string_view kInLayer = "model.layers.N";

int weight(PointStatus status) {
  switch (status) {
    case PointStatus::kDiverged:
      return 8;
    case PointStatus::kNonfinite:
      return 7;
    case PointStatus::kShape:
      return 6;
    case PointStatus::kMissing:
      return 5;
    case PointStatus::kPropagated:
      return 4;
    case PointStatus::kHealed:
      return 3;
    case PointStatus::kOk:
      return 2;
    case PointStatus::kUnmatched:
      return 1;
    case PointStatus::kIgnored:
      return 0;
  }
  return 0;
}

// A ratio that is no number is as bad as can be.
double size_of(double ratio) { return std::isnan(ratio) ? HUGE_VAL : ratio; }

void put(StripCell& cell, const StripCell& other) {
  const bool first = cell.first || other.first;
  if (other.captured &&
      (!cell.captured || worse(other.status, other.ratio, cell.status, cell.ratio))) {
    cell = other;
  }
  cell.first = first;
}

std::string op_name(const PointRef& ref) {
  std::string name(ref.spec->name);
  if (ref.layer >= 0) name = name.substr(kInLayer.size());
  if (ref.layer >= 0 && name.empty()) name = " output";
  if (ref.layer >= 0) name = name.substr(1);  // the '.' or ':' after the layer
  return ref.partial ? name + ":partial" : name;
}

using Key = std::tuple<std::size_t, int>;  // row of the table; 0 for a partial sum, 1 for the whole

bool is_first(const Report& report, const PointRow& row) {
  const std::optional<FirstDivergence>& d = report.first_divergence;
  return d && d->point == row.point && d->step == row.step && d->rank == row.rank;
}

}  // namespace

bool worse(PointStatus a, double ratio_a, PointStatus b, double ratio_b) {
  if (weight(a) != weight(b)) return weight(a) > weight(b);
  return size_of(ratio_a) > size_of(ratio_b);
}

bool is_bad(PointStatus status) {
  return status == PointStatus::kDiverged || status == PointStatus::kNonfinite ||
         status == PointStatus::kShape;
}
bool is_bad(const PointRow& row) { return is_bad(row.status); }

std::size_t count_of(const Report& report, PointStatus status) {
  return static_cast<std::size_t>(
      std::count_if(report.points.begin(), report.points.end(),
                    [status](const PointRow& p) { return p.status == status; }));
}

Strip strip_of(const Report& report) {
  Strip strip;
  std::set<std::int64_t> layers;
  struct Found {
    PointRef ref;
    const PointRow* row;
  };
  std::vector<Found> found;
  for (const PointRow& row : report.points) {
    const std::optional<PointRef> ref = find_point(canonical_point(row.point));
    if (!ref) {
      ++strip.unknown;
      continue;
    }
    if (ref->layer >= 0) layers.insert(ref->layer);
    found.push_back({*ref, &row});
  }
  strip.layer_numbers.assign(layers.begin(), layers.end());
  strip.layers = static_cast<std::int64_t>(layers.size());
  std::map<Key, StripRow> rows;
  std::set<std::size_t> in_layers;
  for (const Found& f : found) {
    StripRow& row = rows[{f.ref.row, f.ref.partial ? 0 : 1}];
    std::size_t column = 0;
    if (f.ref.layer >= 0) {
      in_layers.insert(f.ref.row);
      column = static_cast<std::size_t>(
          std::lower_bound(strip.layer_numbers.begin(), strip.layer_numbers.end(), f.ref.layer) -
          strip.layer_numbers.begin());
    }
    if (row.cells.empty()) {
      row.op = op_name(f.ref);
      row.cells.resize(f.ref.layer >= 0 ? layers.size() : 1);
    }
    put(row.cells[column], {true, f.row->status, f.row->ratio, is_first(report, *f.row)});
  }
  const std::span<const PointSpec> table = point_table();
  const auto* first_inside = std::find_if(table.data(), table.data() + table.size(),
                                          [](auto& s) { return s.name.starts_with(kInLayer); });
  const auto start = static_cast<std::size_t>(first_inside - table.data());
  for (auto& [key, row] : rows) {
    const std::size_t at = std::get<0>(key);
    auto& part = in_layers.contains(at) ? strip.inside : at < start ? strip.before : strip.after;
    part.push_back(std::move(row));
  }
  return strip;
}

char letter_of(const StripCell& cell) {
  if (!cell.captured) return ' ';
  switch (cell.status) {
    case PointStatus::kOk:
      return cell.ratio <= 0.5 ? '.' : ':';
    case PointStatus::kDiverged: {
      if (std::isnan(cell.ratio)) return '9';
      const double decades = cell.ratio > 1 ? std::ceil(std::log10(cell.ratio)) : 1;
      return static_cast<char>('0' + static_cast<int>(std::clamp(decades, 1.0, 9.0)));
    }
    case PointStatus::kPropagated:
      return '~';
    case PointStatus::kHealed:
      return 'h';
    case PointStatus::kNonfinite:
      return 'N';
    case PointStatus::kShape:
      return 'S';
    case PointStatus::kMissing:
      return '?';
    case PointStatus::kUnmatched:
      return 'u';
    case PointStatus::kIgnored:
      return '_';
  }
  return ' ';
}

std::vector<LegendEntry> legend_of(const Strip& strip) {
  std::set<char> seen;
  for (const auto* part : {&strip.before, &strip.inside, &strip.after}) {
    for (const StripRow& row : *part) {
      for (const StripCell& cell : row.cells) seen.insert(letter_of(cell));
    }
  }
  const bool over =
      std::any_of(seen.begin(), seen.end(), [](char c) { return c >= '1' && c <= '9'; });
  std::vector<LegendEntry> out;
  const auto add = [&](char letter, const char* meaning) {
    if (seen.contains(letter)) out.push_back({letter, meaning});
  };
  add('.', "ok");
  add(':', "ok, over half the bound");
  if (over) out.push_back({'1', "diverged, up to 10^n times the bound"});
  add('N', "not finite");
  add('S', "other shape");
  add('?', "missing");
  add('~', "propagated: only its inputs are wrong");
  add('h', "healed");
  add('u', "unmatched");
  add('_', "ignored");
  add(' ', "not captured");
  return out;
}

std::vector<StripCell> folded(const std::vector<StripCell>& cells, std::size_t most) {
  if (cells.size() <= most || most == 0) return cells;
  const std::size_t each = (cells.size() + most - 1) / most;
  std::vector<StripCell> out((cells.size() + each - 1) / each);
  for (std::size_t i = 0; i < cells.size(); ++i) put(out[i / each], cells[i]);
  return out;
}

std::vector<const PointRow*> points_worst_first(const Report& report) {
  std::vector<const PointRow*> rows;
  for (const PointRow& row : report.points) {
    if (row.status != PointStatus::kIgnored && row.status != PointStatus::kUnmatched) {
      rows.push_back(&row);
    }
  }
  std::stable_sort(rows.begin(), rows.end(), [](const PointRow* a, const PointRow* b) {
    return worse(a->status, a->ratio, b->status, b->ratio);
  });
  return rows;
}

std::vector<const PointRow*> worst_points(const Report& report, std::size_t most) {
  std::vector<const PointRow*> rows = points_worst_first(report);
  // What was only passed on is no news once something is wrong by itself.
  if (!rows.empty() && is_bad(*rows.front())) {
    std::erase_if(rows, [](const PointRow* row) {
      return !is_bad(*row) && row->status != PointStatus::kMissing;
    });
  }
  if (rows.size() > most) rows.resize(most);
  return rows;
}

std::string ratio_text(double ratio) {
  if (!std::isfinite(ratio)) return "not finite";
  std::array<char, 32> text{};
  if (ratio > 1 && ratio < 1.005) return ">1x";
  const char* format = ratio >= 1e5   ? "%.1ex"
                       : ratio >= 100 ? "%.0fx"
                       : ratio > 1    ? "%.3gx"
                                      : "%.2g";
  std::snprintf(text.data(), text.size(), format, ratio);
  return text.data();
}

std::string number_text(double x) {
  if (!std::isfinite(x)) return "not finite";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g", x);
  return text.data();
}

std::string ulp_text(const PointRow& row) {
  const std::optional<DType> dtype = dtype_from_torch(row.dtype);
  const bool whole = dtype && !is_floating(*dtype);
  return whole && row.max_ulp == 0 ? "" : std::to_string(row.max_ulp);
}

}  // namespace ps
