#include "diff/compare/anatomy.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "diff/compare/classes.h"
#include "diff/compare/relation.h"

namespace ps {

namespace {

// One cell's bound, class and number, by the rules of compare().
class Cells {
 public:
  Cells(const TensorView& a, const TensorView& b, const CompareOptions& options,
        const Comparison& compared)
      : a_(a), b_(b), options_(options), rms_(compared.rms_expected) {}

  bool ignored(std::int64_t i) const {
    if (options_.ignore == nullptr) return false;
    const Shape& marks = options_.ignore->shape;
    std::int64_t offset = 0, step = 1;
    for (std::size_t axis = marks.size(); axis-- > 0;) {
      if (marks[axis] != 1) offset += i % b_.shape[axis] * step;
      i /= b_.shape[axis];
      step *= marks[axis];
    }
    return options_.ignore->bytes[static_cast<std::size_t>(offset)] != std::byte{0};
  }
  double limit(std::int64_t j) const {
    const BoundSpec& bound = options_.bound;
    const double size = std::fabs(value_at(b_, j));
    if (bound.kind == BoundSpec::Kind::kCells) return value_at(bound.cells, j);
    if (bound.kind == BoundSpec::Kind::kFormula) return bound.atol + bound.rtol * size;
    return bound.cell_limit * std::max(size, rms_);
  }
  bool same(std::int64_t i, std::int64_t j) const {
    const double x = value_at(a_, i), y = value_at(b_, j);
    const CellPair pair = pair_of(x, a_.dtype, y, b_.dtype);
    return pair == CellPair::kNumbers ? std::fabs(x - y) <= limit(j) : pair == CellPair::kAlike;
  }

 private:
  const TensorView& a_;
  const TensorView& b_;
  const CompareOptions& options_;
  double rms_;
};

// Which of n indices are hit, in words; empty for all of them.
std::string hit_words(const std::string& name, const std::vector<std::int64_t>& wrong) {
  const auto n = static_cast<std::int64_t>(wrong.size());
  std::vector<std::int64_t> hit;
  for (std::int64_t i = 0; i < n; ++i) {
    if (wrong[static_cast<std::size_t>(i)] > 0) hit.push_back(i);
  }
  const auto count = static_cast<std::int64_t>(hit.size());
  if (count == n || count == 0) return "";
  if (count == 1) return name + " " + std::to_string(hit[0]) + " alone";
  const std::int64_t step = hit[1] - hit[0];
  bool even_steps = true;
  for (std::size_t i = 1; i < hit.size(); ++i)
    even_steps = even_steps && hit[i] - hit[i - 1] == step;
  const std::string of = " of " + std::to_string(n);
  if (even_steps && step == 1) {
    if (hit.front() == 0) return "the first " + std::to_string(count) + of + " along " + name;
    if (hit.back() == n - 1) return "the last " + std::to_string(count) + of + " along " + name;
    return name + " " + std::to_string(hit.front()) + " to " + std::to_string(hit.back()) + of;
  }
  if (even_steps && count > 2 && hit.front() < step && hit.back() + step >= n) {
    const std::string every = step == 2 ? "every second" : "every " + std::to_string(step) + "th";
    return every + " " + name + ", from " + std::to_string(hit.front());
  }
  return std::to_string(count) + of + " along " + name;
}

std::string join(const std::vector<std::string>& parts, const char* between) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += between;
    out += part;
  }
  return out;
}

std::string quoted(const std::string& text) {  // of our own words: no escapes are needed
  return "\"" + text + "\"";
}

std::string json_number(double x) {
  if (!std::isfinite(x)) return "null";
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", x);
  return text;
}

// One outer product u v^T explains the errors: the share of their energy that it leaves.
bool is_rank_one(const TensorView& a, const TensorView& b, const Cells& cells) {
  if (b.shape.size() < 2 || b.count() > (1 << 22)) return false;
  const std::int64_t columns = b.shape.back();
  if (columns < 3 || b.count() / columns < 3) return false;
  const std::int64_t rows = b.count() / columns;
  std::vector<double> error(static_cast<std::size_t>(b.count()));
  double energy = 0;
  std::size_t pivot = 0;
  for (std::size_t i = 0; i < error.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    const double d = value_at(a, at) - value_at(b, at);
    error[i] = std::isfinite(d) && !cells.ignored(at) ? d : 0;
    energy += error[i] * error[i];
    if (std::fabs(error[i]) > std::fabs(error[pivot])) pivot = i;
  }
  if (energy == 0) return false;
  // Cross approximation from the largest cell: exact where the rank is one.
  const auto width = static_cast<std::size_t>(columns);
  const std::size_t pivot_row = pivot / width, pivot_column = pivot % width;
  double left = 0;
  std::int64_t rows_hit = 0, columns_hit = 0;
  for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
    const double factor = error[r * width + pivot_column] / error[pivot];
    rows_hit += factor != 0 ? 1 : 0;
    for (std::size_t c = 0; c < width; ++c) {
      const double rest = error[r * width + c] - factor * error[pivot_row * width + c];
      left += rest * rest;
    }
  }
  for (std::size_t c = 0; c < width; ++c) {
    columns_hit += error[pivot_row * width + c] != 0 ? 1 : 0;
  }
  return left <= 1e-4 * energy && rows_hit > 2 && columns_hit > 2;
}

}  // namespace

Anatomy anatomy(const TensorView& candidate, const TensorView& expected,
                const CompareOptions& options, const Comparison& compared,
                const std::vector<NamedAxis>& axes) {
  Anatomy out;
  if (!compared.same_shape) return out;
  const Cells cells(candidate, expected, options, compared);
  for (const NamedAxis& axis : axes) {
    AxisShare share{axis.name, axis.size, {}, ""};
    share.wrong.resize(static_cast<std::size_t>(axis.size));
    out.axes.push_back(std::move(share));
  }
  std::int64_t first = -1;
  for (std::int64_t i = 0; i < expected.count(); ++i) {
    if (cells.ignored(i) || cells.same(i, i)) continue;
    ++out.wrong;
    if (first < 0) first = i;
    const std::vector<std::int64_t> at = index_of(axes, i);
    for (std::size_t axis = 0; axis < at.size(); ++axis) {
      ++out.axes[axis].wrong[static_cast<std::size_t>(at[axis])];
    }
  }
  if (first < 0) first = compared.first_wrong();
  if (first >= 0) out.first = place_of(axes, first);

  std::vector<std::string> parts;
  std::int64_t box = 1;
  for (AxisShare& share : out.axes) {
    share.words = hit_words(share.name, share.wrong);
    if (!share.words.empty()) parts.push_back(share.words);
    box *= std::count_if(share.wrong.begin(), share.wrong.end(), [](auto n) { return n > 0; });
  }
  const std::int64_t all = compared.compared;
  if (out.wrong == 0) {
    out.geometry = "no single cell is over its bound; the tensor as a whole is off";
  } else {
    out.geometry = std::to_string(out.wrong) + " of " + std::to_string(all) + " cells";
    if (out.wrong == all) {
      out.geometry = "every cell";
    } else if (!parts.empty()) {
      out.geometry += ": " + join(parts, ", ");
      if (box > 0 && out.wrong == box) out.geometry += "; every cell there";
    } else if (compared.compared > 0) {
      out.geometry += ", scattered over all axes";
    }
  }
  const bool rank_one = compared.class_mismatches == 0 && is_rank_one(candidate, expected, cells);
  if (rank_one) out.geometry += "; the error has rank one";
  const SameCell same = [&](std::int64_t i, std::int64_t j) { return cells.same(i, j); };
  out.relation = relation_of(candidate, expected, compared, axes, same,
                             [&](std::int64_t i) { return cells.ignored(i); });

  out.evidence = {{"wrong_cells", std::to_string(out.wrong)},
                  {"max_abs", json_number(compared.max_abs)},
                  {"rel_l2", json_number(compared.rel_l2)},
                  {"cosine", json_number(compared.cosine)},
                  {"geometry", quoted(out.geometry)}};
  if (first >= 0) {
    out.evidence.emplace_back("candidate", json_number(value_at(candidate, first)));
    out.evidence.emplace_back("expected", json_number(value_at(expected, first)));
  }
  if (!out.relation.empty()) out.evidence.emplace_back("candidate_is", quoted(out.relation));
  if (compared.regression.defined) {
    char line[96];
    std::snprintf(line, sizeof line, "{\"slope\": %.9g, \"intercept\": %.9g, \"r2\": %.9g}",
                  compared.regression.slope, compared.regression.intercept, compared.regression.r2);
    out.evidence.emplace_back("regression", line);
  }
  return out;
}

}  // namespace ps
