// What plants are written with: values as doubles in row-major order, whatever their type and
// strides, and attention by plain loops.
#pragma once

#include <cmath>
#include <string_view>
#include <vector>

#include "model/plant.h"

namespace ps {

using Values = std::vector<double>;

Values read(const Array& array);
void write(const Array& array, const Values& values);  // rounded to the array's type
Values read(const Tensor& tensor);
void write(Tensor& tensor, const Values& values);  // f32

// The value with rows of its first axis taken at from[row].
Values rows_at(const Array& array, const std::vector<std::int64_t>& from);

// u cos + turn(u) sin over [row, head, token, dim]; `layout` says what a pair is.
enum class Pairs { kHalves, kAdjacent, kAdjacentToHalves };
Values rotate(const Array& x, const Array& cosine, const Array& sine, Pairs pairs);
// The value that a layer's rope op reads: [row, head, token, dim], normed where the model does.
Array rope_input(const Planting& at, bool keys);
std::int64_t rope_table_row(const Array& table, std::int64_t row);

// q k^T / sqrt(dim), and probs v, with key/value head of(h) for query head h.
using HeadMap = std::function<std::int64_t(std::int64_t head)>;
void rescore(const Planting& at, const HeadMap& of);
void recontext(const Planting& at, const HeadMap& of);
// probs = softmax of edit(score, visible, column); where it gives -inf for all columns, `empty`.
using ScoreEdit = std::function<double(double score, bool visible, std::int64_t column)>;
void resoftmax(const Planting& at, const ScoreEdit& edit, double empty = 0);
// Rows of probs that see no key get this in every column; the others are left alone.
void fill_empty_rows(const Planting& at, double value);

// Edits cells of a mask point [row, 1 or head, query, column]. `key` is column - prefix; `place`
// the query's own place among the keys.
struct MaskCell {
  std::int64_t row, sample, query, column, key, place;
  bool real, visible;  // real: the key is no padding; prefix columns are
};
bool is_mask(const Planting& at);
void remask(const Planting& at, const std::function<bool(const MaskCell&)>& visible);

double through(double value, DType type);  // rounded to a shorter type

// A tensor's name in a layer ends with this.
inline bool ends(const std::string& name, std::string_view suffix) {
  return name.ends_with(suffix);
}

}  // namespace ps

// The head of a plants/ file: PS_PLANT_KIND(swap_kv, "swap-kv", "weights", kListed, make).
#define PS_PLANT_KIND(name, id, fault_class, sort, make)             \
  namespace ps::planted {                                            \
  extern const PlantKind name;                                       \
  const PlantKind name = {{id, fault_class, PlantSort::sort}, make}; \
  }
