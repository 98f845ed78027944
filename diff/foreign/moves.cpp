#include "diff/foreign/moves.h"

#include <algorithm>
#include <cstring>

namespace ps {

namespace {

// rows [n, inner...] at axis `at` become [batch, columns] by `row(b, column)`; -1 = zeros.
template <class Row>
Tensor spread(const Tensor& from, std::size_t at, std::size_t axes, std::int64_t batch,
              std::int64_t columns, const Row& row) {
  const Shape& shape = from.shape();
  std::int64_t outer = 1, rows = 1, inner = size_of(from.dtype());
  for (std::size_t i = 0; i < at; ++i) outer *= shape[i];
  for (std::size_t i = at; i < at + axes; ++i) rows *= shape[i];
  for (std::size_t i = at + axes; i < shape.size(); ++i) inner *= shape[i];
  Shape to(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(at));
  to.insert(to.end(), {batch, columns});
  to.insert(to.end(), shape.begin() + static_cast<std::ptrdiff_t>(at + axes), shape.end());
  Tensor out(from.dtype(), to);
  const std::span<const std::byte> source = from.view().bytes;
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t c = 0; c < columns; ++c) {
        const std::int64_t r = row(o, b, c);
        if (r < 0 || r >= rows) continue;
        std::memcpy(out.bytes().data() + ((o * batch + b) * columns + c) * inner,
                    source.data() + (o * rows + r) * inner, static_cast<std::size_t>(inner));
      }
    }
  }
  return out;
}

// [b][column] -> the sequence's token there, or -1.
std::vector<std::vector<std::int64_t>> tokens_at(const BatchMap& batch) {
  std::vector<std::vector<std::int64_t>> out;
  for (const auto& columns : batch.column_of) {
    std::vector<std::int64_t> row(static_cast<std::size_t>(batch.columns), -1);
    for (std::size_t i = 0; i < columns.size(); ++i) {
      row[static_cast<std::size_t>(columns[i])] = static_cast<std::int64_t>(i);
    }
    out.push_back(std::move(row));
  }
  return out;
}

std::size_t find_letter(const Work& work, std::string_view letter) {
  const auto found = std::find(work.letters.begin(), work.letters.end(), letter);
  return static_cast<std::size_t>(found - work.letters.begin());
}

void replace_letters(Work& work, std::size_t at, std::size_t count,
                     const std::vector<std::string>& by) {
  const auto begin = work.letters.begin() + static_cast<std::ptrdiff_t>(at);
  work.letters.insert(work.letters.erase(begin, begin + static_cast<std::ptrdiff_t>(count)),
                      by.begin(), by.end());
}

void unflatten_tokens(Work& work, const BatchMap& batch) {
  const std::size_t at = find_letter(work, "t");
  if (at == work.letters.size()) return;
  std::vector<std::int64_t> first(1, 0);
  for (const std::int64_t n : batch.lengths) first.push_back(first.back() + n);
  work.value = spread(work.value, at, 1, batch.batch, batch.length,
                      [&](std::int64_t, std::int64_t b, std::int64_t s) -> std::int64_t {
                        const auto k = static_cast<std::size_t>(b);
                        const std::int64_t pad = batch.length - batch.lengths[k];
                        return s < pad ? -1 : first[k] + s - pad;
                      });
  replace_letters(work, at, 1, {"B", "S"});
}

Result<void> unpage(Work& work, const BatchMap& batch) {
  const std::size_t at = find_letter(work, "page");
  if (at == work.letters.size()) return {};
  const bool slots = at + 1 < work.letters.size() && work.letters[at + 1] == "slot";
  if (batch.block_table.empty()) {
    return bad_input("", "is a paged cache, and the run has no block_tables");
  }
  const std::int64_t size = slots ? work.value.shape()[at + 1] : 1;
  const auto tokens = tokens_at(batch);
  work.value = spread(work.value, at, slots ? 2 : 1, batch.batch, batch.columns,
                      [&](std::int64_t, std::int64_t b, std::int64_t c) -> std::int64_t {
                        const auto k = static_cast<std::size_t>(b);
                        const std::int64_t token = tokens[k][static_cast<std::size_t>(c)];
                        if (token < 0) return -1;
                        const auto page = static_cast<std::size_t>(token / size);
                        if (page >= batch.block_table[k].size()) return -1;
                        const std::int64_t block = batch.block_table[k][page];
                        return block < 0 ? -1 : block * size + token % size;
                      });
  replace_letters(work, at, slots ? 2 : 1, {"B", "C"});
  return {};
}

// "c": each sequence's slots from its first token on, to the columns that its tokens have.
void place_slots(Work& work, const BatchMap& batch) {
  const std::size_t at = find_letter(work, "c");
  if (at == work.letters.size() || batch.batch == 0) return;  // 0: the run names no tokens
  const auto tokens = tokens_at(batch);
  const std::size_t rows = find_letter(work, "B");
  // The sequence that an outer index belongs to, where B stands anywhere before c.
  std::int64_t below = 1;
  for (std::size_t i = rows + 1; i < at; ++i) below *= work.value.shape()[i];
  const bool one = rows == work.letters.size() || rows > at;
  work.value = spread(work.value, at, 1, 1, batch.columns,
                      [&](std::int64_t o, std::int64_t, std::int64_t c) -> std::int64_t {
                        const std::int64_t b = one ? 0 : o / below % batch.batch;
                        return tokens[static_cast<std::size_t>(b)][static_cast<std::size_t>(c)];
                      });
  replace_letters(work, at, 1, {"1", "C"});
}

// C may be longer than the cache: what is behind it is room that was not used.
void cut_columns(Work& work, const BatchMap& batch) {
  const std::size_t at = find_letter(work, "C");
  if (at == work.letters.size() || batch.batch == 0) return;
  if (work.value.shape()[at] <= batch.slots()) return;
  work.value = slice(work.value.view(), at, 0, batch.slots());
}

}  // namespace

Tensor slice(const TensorView& v, std::size_t axis, std::int64_t begin, std::int64_t size) {
  Shape shape = v.shape;
  shape[axis] = size;
  Tensor out(v.dtype, shape);
  std::int64_t inner = size_of(v.dtype), outer = 1;
  for (std::size_t i = 0; i < axis; ++i) outer *= v.shape[i];
  for (std::size_t i = axis + 1; i < v.shape.size(); ++i) inner *= v.shape[i];
  const std::int64_t step = v.shape[axis] * inner;
  for (std::int64_t o = 0; o < outer; ++o) {
    std::memcpy(out.bytes().data() + o * size * inner, v.bytes.data() + o * step + begin * inner,
                static_cast<std::size_t>(size * inner));
  }
  return out;
}

Tensor permuted(const Tensor& from, const std::vector<std::size_t>& order) {
  const Shape& shape = from.shape();
  std::vector<std::int64_t> own(shape.size()), strides(shape.size()), at(shape.size(), 0);
  std::int64_t step = 1;
  for (std::size_t i = shape.size(); i-- > 0; step *= shape[i]) own[i] = step;
  Shape to(shape.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    to[i] = shape[order[i]];
    strides[i] = own[order[i]];
  }
  Tensor out(from.dtype(), to);
  const auto size = static_cast<std::size_t>(size_of(from.dtype()));
  const std::byte* source = from.view().bytes.data();
  std::int64_t offset = 0;
  for (std::size_t cell = 0; cell * size < out.bytes().size(); ++cell) {
    std::memcpy(out.bytes().data() + cell * size, source + static_cast<std::size_t>(offset) * size,
                size);
    for (std::size_t axis = to.size(); axis-- > 0;) {
      offset += strides[axis];
      if (++at[axis] < to[axis]) break;
      offset -= strides[axis] * to[axis];
      at[axis] = 0;
    }
  }
  return out;
}

Result<void> to_batch(Work& work, const BatchMap& batch) {
  unflatten_tokens(work, batch);
  PS_TRY_VOID(unpage(work, batch));
  place_slots(work, batch);
  cut_columns(work, batch);
  return {};
}

}  // namespace ps
