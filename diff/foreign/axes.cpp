#include "diff/foreign/axes.h"

#include <algorithm>
#include <optional>

#include "core/text.h"
#include "diff/foreign/moves.h"

namespace ps {

namespace {

std::string text_of(const Axis& axis) {
  std::string out;
  for (const std::string& factor : axis) out += (out.empty() ? "" : "*") + factor;
  return out;
}

// One factor of a value: what it counts, and how many.
struct Factor {
  std::string letter;
  std::int64_t size = 0;
};
using Factors = std::vector<std::vector<Factor>>;  // [axis][factor]

Error misfit(std::size_t axis, const std::string& what, std::int64_t expected, std::int64_t found) {
  return bad_input("axis " + std::to_string(axis), "is not " + what, std::to_string(expected),
                   std::to_string(found));
}

// The size that a letter must have, where it must have one.
std::optional<std::int64_t> exact_size(const std::string& letter, const Sizes& sizes) {
  if (is_number(letter)) return std::stoll(letter);
  const auto found = sizes.find(letter);
  if (found == sizes.end()) return std::nullopt;
  return found->second;
}

Result<Factors> factors_of(const Shape& shape, const std::vector<Axis>& axes, const Sizes& sizes,
                           const BatchMap& batch) {
  if (shape.size() != axes.size()) {
    return bad_input("", "has another number of axes", std::to_string(axes.size()),
                     std::to_string(shape.size()));
  }
  Factors out;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    std::vector<Factor> factors;
    std::int64_t known = 1;
    std::size_t open = axes[i].size();
    for (std::size_t f = 0; f < axes[i].size(); ++f) {
      const std::optional<std::int64_t> size = exact_size(axes[i][f], sizes);
      factors.push_back({axes[i][f], size.value_or(0)});
      if (size) {
        known *= *size;
      } else if (open < axes[i].size()) {
        return bad_input("axis " + std::to_string(i),
                         "cannot be taken apart without the model: " + text_of(axes[i]));
      } else {
        open = f;
      }
    }
    if (open < axes[i].size()) {
      if (known == 0 || shape[i] % known != 0) {
        return misfit(i, "a multiple of what " + text_of(axes[i]) + " has", known, shape[i]);
      }
      factors[open].size = shape[i] / known;
    } else if (known != shape[i]) {
      return misfit(i, text_of(axes[i]), known, shape[i]);
    }
    out.push_back(std::move(factors));
  }
  // Letters that only the batch explains.
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (const Factor& f : out[i]) {
      // A run that names no tokens may have any batch; flattened tokens cannot be placed then.
      const bool unknown = batch.batch == 0 && f.letter != "t";
      const auto want = [&](std::int64_t n, const char* what) -> Result<void> {
        if (f.size == n || unknown) return {};
        return misfit(i, what, n, f.size);
      };
      if (f.letter == "t") PS_TRY_VOID(want(batch.tokens(), "the step's tokens (t)"));
      if (f.letter == "n" || f.letter == "B") PS_TRY_VOID(want(batch.batch, "the batch (B)"));
      if (f.letter == "S") PS_TRY_VOID(want(batch.length, "the new tokens (S)"));
      if (f.letter == "C" && f.size < batch.slots() && !unknown) {
        return misfit(i, "as long as the cache (C), or longer", batch.slots(), f.size);
      }
    }
  }
  return out;
}

// How the parts of a cut axis share it: by the model's sizes, or evenly where all are alike.
Result<std::vector<std::int64_t>> part_sizes(const Layout& layout, std::int64_t whole,
                                             const Sizes& sizes) {
  const std::vector<Axis>& parts = layout.axes[layout.split_axis()];
  std::vector<std::int64_t> out;
  std::int64_t sum = 0;
  for (const Axis& part : parts) {
    std::int64_t n = 1;
    bool known = true;
    for (const std::string& letter : part) {
      const std::optional<std::int64_t> size = exact_size(letter, sizes);
      known = known && size.has_value();
      n *= size.value_or(0);
    }
    if (!known) {
      const bool alike =
          std::all_of(parts.begin(), parts.end(), [&](const Axis& p) { return p == parts[0]; });
      const auto count = static_cast<std::int64_t>(parts.size());
      if (!alike || whole % count != 0) {
        return bad_input("axis " + std::to_string(layout.split_axis()),
                         "cannot be cut without the model: " + text_of(part));
      }
      return std::vector<std::int64_t>(parts.size(), whole / count);
    }
    out.push_back(n);
    sum += n;
  }
  if (sum != whole) return misfit(layout.split_axis(), "as long as its parts together", sum, whole);
  return out;
}

Shape in_order(const Shape& shape, bool reverse) {
  Shape out = shape;
  if (reverse) std::reverse(out.begin(), out.end());
  return out;
}

// Axes of size 1 in front, where the layout has fewer (or more) axes.
Shape to_axes(Shape shape, std::size_t axes) {
  while (shape.size() > axes && shape[0] == 1) shape.erase(shape.begin());
  return shape;
}

// The target's axes as factors of letters that the value has: R is B, "1|S" is S where the value
// has one, D is 2*J where it has J.
std::vector<Axis> target_axes(const std::string& target, const Work& work) {
  const auto has = [&](std::string_view letter) {
    return std::find(work.letters.begin(), work.letters.end(), letter) != work.letters.end();
  };
  std::vector<Axis> out;
  for (const std::string& axis : split_at(target, ',')) {
    const std::vector<std::string> ways = split_at(axis, '|');
    const auto as_value = [&](const std::string& way) {
      Axis factors;
      if (has(way)) return Axis{way};
      for (const std::string& letter : split_at(way, '*')) {
        if (letter == "R" && !has("R")) {
          factors.push_back("B");
        } else if (letter == "D" && has("J")) {
          factors.insert(factors.end(), {"2", "J"});
        } else {
          factors.push_back(letter);
        }
      }
      return factors;
    };
    Axis chosen = as_value(ways.back());
    for (const std::string& way : ways) {
      const Axis factors = as_value(way);
      const bool all = std::all_of(factors.begin(), factors.end(), has);
      if (all && way != "1") chosen = factors;
    }
    if (ways.size() > 1 && ways[0] == "1" && !std::all_of(chosen.begin(), chosen.end(), has)) {
      chosen = {"1"};
    }
    out.push_back(std::move(chosen));
  }
  return out;
}

Result<Tensor> to_target(Work work, const std::string& target, std::int64_t batch) {
  const std::vector<Axis> axes = target_axes(target, work);
  std::vector<bool> used(work.letters.size(), false);
  std::vector<std::size_t> order;
  Shape shape;
  for (const Axis& axis : axes) {
    std::int64_t size = 1;
    for (const std::string& letter : axis) {
      std::size_t at = 0;
      while (at < work.letters.size() && (used[at] || work.letters[at] != letter)) ++at;
      if (at == work.letters.size()) {
        if (letter == "1" || (letter == "B" && batch == 1)) continue;
        return bad_input("", "lacks " + letter + ", which " + target + " needs");
      }
      used[at] = true;
      order.push_back(at);
      size *= work.value.shape()[at];
    }
    shape.push_back(size);
  }
  for (std::size_t at = 0; at < used.size(); ++at) {
    if (used[at]) continue;
    if (work.value.shape()[at] != 1) {
      return bad_input("", "has " + work.letters[at] + ", which has no place in " + target);
    }
    order.push_back(at);
  }
  if (!std::is_sorted(order.begin(), order.end())) work.value = permuted(work.value, order);
  return Tensor::of(work.value.dtype(), shape, work.value.view().bytes);
}

// Products that the target has too are left whole: nobody needs to know their factors.
void whole_products(std::vector<Axis>& axes, const std::string& target, Sizes& sizes) {
  const std::vector<std::string> wanted = split_at(target, ',');
  for (Axis& axis : axes) {
    const std::string text = text_of(axis);
    if (axis.size() < 2 || std::find(wanted.begin(), wanted.end(), text) == wanted.end()) continue;
    std::int64_t n = 1;
    bool known = true;
    for (const std::string& letter : axis) {
      const std::optional<std::int64_t> size = exact_size(letter, sizes);
      known = known && size.has_value();
      n *= size.value_or(0);
    }
    if (known) sizes[text] = n;
    axis = {text};
  }
}

}  // namespace

Result<void> fits_layout(const TensorView& value, const Layout& layout,
                         const std::vector<std::string>& targets, const Sizes& sizes,
                         const BatchMap& batch, bool reverse) {
  Shape shape = to_axes(in_order(value.shape, reverse), layout.axes.size());
  if (shape.size() != layout.axes.size()) {
    return bad_input("", "has another number of axes", std::to_string(layout.axes.size()),
                     std::to_string(shape.size()));
  }
  const std::size_t cut = layout.split_axis();
  std::vector<std::int64_t> parts(1, 0);
  if (cut < layout.axes.size()) {
    PS_TRY(parts, part_sizes(layout, shape[cut], sizes));
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Sizes mine = sizes;
    std::vector<Axis> axes = layout.part(i);
    whole_products(axes, targets[i], mine);
    if (cut < layout.axes.size()) {
      shape[cut] = parts[i];
      axes[cut] = {text_of(axes[cut])};
      mine[axes[cut][0]] = parts[i];
    }
    PS_TRY(const Factors checked, factors_of(shape, axes, mine, batch));
  }
  return {};
}

Result<std::vector<Tensor>> arrange(const TensorView& value, const Layout& layout,
                                    const std::vector<std::string>& targets, const Sizes& sizes,
                                    const BatchMap& batch, bool reverse) {
  PS_TRY_VOID(fits_layout(value, layout, targets, sizes, batch, reverse));
  const TensorView whole{value.dtype, to_axes(in_order(value.shape, reverse), layout.axes.size()),
                         value.bytes};
  const std::size_t cut = layout.split_axis();
  std::vector<std::int64_t> parts(1, 0);
  if (cut < layout.axes.size()) {
    PS_TRY(parts, part_sizes(layout, whole.shape[cut], sizes));
  }
  std::vector<Tensor> out;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    Work work;
    work.value =
        cut < layout.axes.size() ? slice(whole, cut, begin, parts[i]) : Tensor::copy_of(whole);
    begin += parts[std::min(i, parts.size() - 1)];
    std::vector<Axis> axes = layout.part(i);
    Sizes mine = sizes;
    whole_products(axes, targets[i], mine);
    PS_TRY(const Factors factors, factors_of(work.value.shape(), axes, mine, batch));
    Shape shape;
    for (const std::vector<Factor>& axis : factors) {
      for (const Factor& f : axis) {
        if (f.letter == "1") continue;
        shape.push_back(f.size);
        work.letters.push_back(f.letter == "n" ? "B" : f.letter);
      }
    }
    work.value = Tensor::of(work.value.dtype(), shape, work.value.view().bytes);
    PS_TRY_VOID(to_batch(work, batch));
    PS_TRY(Tensor done, to_target(std::move(work), targets[i], batch.batch));
    out.push_back(std::move(done));
  }
  return out;
}

}  // namespace ps
