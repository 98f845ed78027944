#include "diff/foreign/batch.h"

#include <algorithm>
#include <numeric>

namespace ps {

namespace {

std::vector<std::int64_t> integers(const TensorView& v) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(v.count()));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = v.dtype == DType::kI64
                 ? v.as<std::int64_t>()[i]
                 : static_cast<std::int64_t>(value_at(v, static_cast<std::int64_t>(i)));
  }
  return out;
}

const TensorView* find(const RawInputs& raw, const std::string& name) {
  const auto found = raw.find(name);
  return found == raw.end() ? nullptr : &found->second;
}

// [batch][column]: the last `length` columns belong to this step.
std::vector<std::vector<bool>> mask_rows(const TensorView& mask, std::int64_t batch,
                                         std::int64_t length) {
  const std::vector<std::int64_t> cells = integers(mask);
  const std::int64_t columns = mask.shape[1];
  std::vector<std::vector<bool>> out;
  for (std::int64_t b = 0; b < batch; ++b) {
    std::vector<bool> row;
    for (std::int64_t c = columns - length; c < columns; ++c) {
      row.push_back(cells[static_cast<std::size_t>(b * columns + c)] != 0);
    }
    out.push_back(std::move(row));
  }
  return out;
}

// Each sequence's last `lengths[b]` of `length` columns are real.
std::vector<std::vector<bool>> left_padded(const std::vector<std::int64_t>& lengths,
                                           std::int64_t length) {
  std::vector<std::vector<bool>> out;
  for (const std::int64_t n : lengths) {
    std::vector<bool> row(static_cast<std::size_t>(length - n), false);
    row.resize(static_cast<std::size_t>(length), true);
    out.push_back(std::move(row));
  }
  return out;
}

// Flattened cells, a sequence after the other, as rows padded on the left.
std::vector<std::int64_t> padded(const std::vector<std::int64_t>& flat, const BatchMap& map,
                                 std::int64_t filler) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(map.batch * map.length), filler);
  std::size_t from = 0;
  for (std::int64_t b = 0; b < map.batch; ++b) {
    const std::int64_t n = map.lengths[static_cast<std::size_t>(b)];
    for (std::int64_t i = map.length - n; i < map.length; ++i) {
      out[static_cast<std::size_t>(b * map.length + i)] = flat[from++];
    }
  }
  return out;
}

// Where a position does not follow the one before, another sequence begins.
std::vector<std::int64_t> runs_of(const std::vector<std::int64_t>& positions) {
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const bool follows = i > 0 && positions[i] == positions[i - 1] + 1;
    if (follows) {
      ++out.back();
    } else {
      out.push_back(1);
    }
  }
  return out;
}

}  // namespace

Result<std::vector<std::int64_t>> BatchTracker::lengths_of(const RawInputs& raw,
                                                           std::int64_t tokens) const {
  if (const TensorView* cu = find(raw, "cu_seqlens"); cu != nullptr) {
    const std::vector<std::int64_t> ends = integers(*cu);
    std::vector<std::int64_t> out;
    for (std::size_t i = 1; i < ends.size(); ++i) {
      // Padded for a CUDA graph: the last end, over and over.
      if (ends[i] == ends[i - 1] && ends[i] == tokens) break;
      if (ends[0] != 0 || ends[i] <= ends[i - 1] || ends[i] > tokens) {
        return bad_input("cu_seqlens", "must rise from 0 to the number of tokens",
                         std::to_string(tokens),
                         std::to_string(ends[i - 1]) + ", " + std::to_string(ends[i]));
      }
      out.push_back(ends[i] - ends[i - 1]);
    }
    if (!out.empty() && std::accumulate(out.begin(), out.end(), std::int64_t{0}) == tokens)
      return out;
    return bad_input("cu_seqlens", "must end at the number of tokens", std::to_string(tokens),
                     ends.empty() ? "nothing" : std::to_string(ends.back()));
  }
  if (started_ && tokens == batch_)
    return std::vector<std::int64_t>(static_cast<std::size_t>(batch_), 1);
  if (const TensorView* lens = find(raw, "seq_lens"); lens != nullptr) {
    std::vector<std::int64_t> out = integers(*lens);
    // Whatever a file says, no sequence is longer than all tokens there can be.
    constexpr std::int64_t kMost = std::int64_t{1} << 40;
    for (std::int64_t& n : out) n = std::clamp<std::int64_t>(n, 0, kMost);
    for (std::size_t b = 0; started_ && b < out.size() && b < real_.size(); ++b) {
      out[b] -= std::count(real_[b].begin(), real_[b].end(), true);
    }
    const bool good =
        std::all_of(out.begin(), out.end(), [&](std::int64_t n) { return n > 0 && n <= tokens; });
    if (good && std::accumulate(out.begin(), out.end(), std::int64_t{0}) == tokens) return out;
    return bad_input("seq_lens", "less what is cached already, do not add up to the tokens",
                     std::to_string(tokens), to_string(out));
  }
  const TensorView* positions = find(raw, "position_ids");
  if (positions != nullptr && positions->count() == tokens) return runs_of(integers(*positions));
  return std::vector<std::int64_t>{tokens};
}

void BatchTracker::append(StepBatch& step, const std::vector<std::vector<bool>>& real) {
  real_.resize(real.size());
  for (std::size_t b = 0; b < real.size(); ++b) {
    real_[b].insert(real_[b].end(), real[b].begin(), real[b].end());
    std::vector<std::int64_t> columns;
    for (std::size_t c = 0; c < real_[b].size(); ++c) {
      if (real_[b][c]) columns.push_back(static_cast<std::int64_t>(c));
    }
    step.map.column_of.push_back(std::move(columns));
  }
  started_ = true;
  batch_ = step.map.batch;
  step.past = columns_;
  columns_ += step.map.length;
  step.map.columns = columns_;
}

Result<StepBatch> BatchTracker::next(const RawInputs& raw, std::int64_t tokens) {
  StepBatch step;
  const TensorView* ids = find(raw, "input_ids");
  const TensorView* mask = find(raw, "attention_mask");
  const TensorView* positions = find(raw, "position_ids");
  const bool flat_cu = find(raw, "cu_seqlens") != nullptr;
  const bool rows = ids != nullptr && ids->shape.size() == 2 && !(flat_cu && ids->shape[0] == 1);
  if (ids != nullptr && (ids->shape.size() > 2 || is_floating(ids->dtype))) {
    return bad_input("input_ids", "are no tokens", "integers, [batch, tokens] or [tokens]",
                     std::string(torch_name(ids->dtype)) + " " + to_string(ids->shape));
  }
  std::vector<std::vector<bool>> real;
  if (rows) {
    step.map.batch = ids->shape[0];
    step.map.length = ids->shape[1];
    step.map.lengths.assign(static_cast<std::size_t>(step.map.batch), step.map.length);
    const bool fits = mask != nullptr && mask->shape.size() == 2 &&
                      mask->shape[0] == step.map.batch && mask->shape[1] >= step.map.length;
    real = fits ? mask_rows(*mask, step.map.batch, step.map.length)
                : left_padded(step.map.lengths, step.map.length);
  } else {
    const std::int64_t count = ids != nullptr         ? ids->count()
                               : positions != nullptr ? positions->count()
                                                      : tokens;
    if (count == 0) return step;  // nothing is known of this step
    PS_TRY(step.map.lengths, lengths_of(raw, count));
    step.map.batch = static_cast<std::int64_t>(step.map.lengths.size());
    step.map.length = *std::max_element(step.map.lengths.begin(), step.map.lengths.end());
    real = left_padded(step.map.lengths, step.map.length);
  }
  if (step.map.batch < 1 || step.map.length < 1) return bad_input("input_ids", "are empty");
  if (started_ && step.map.batch != batch_) {
    return bad_input("the batch",
                     "changes from step to step: sequences come and go; record a run "
                     "in which all of them take part in every step",
                     std::to_string(batch_) + " sequences", std::to_string(step.map.batch));
  }
  append(step, real);
  if (const TensorView* table = find(raw, "block_tables");
      table != nullptr && table->shape.size() == 2) {
    const std::vector<std::int64_t> cells = integers(*table);
    const auto pages = static_cast<std::ptrdiff_t>(table->shape[1]);
    for (std::int64_t b = 0; b < std::min(step.map.batch, table->shape[0]); ++b) {
      const auto begin = cells.begin() + b * pages;
      step.map.block_table.emplace_back(begin, begin + pages);
    }
    if (table->shape[0] < step.map.batch) step.map.block_table.clear();
  }
  if (ids == nullptr) return step;
  StepInputs inputs;
  inputs.batch = step.map.batch;
  inputs.length = step.map.length;
  inputs.input_ids = rows ? integers(*ids) : padded(integers(*ids), step.map, 0);
  if (positions != nullptr && positions->count() == ids->count()) {
    inputs.position_ids = rows ? integers(*positions) : padded(integers(*positions), step.map, 1);
  }
  std::vector<std::int64_t> cells;
  bool all_real = true;
  for (const std::vector<bool>& row : real_) {
    for (const bool one : row) {
      cells.push_back(one ? 1 : 0);
      all_real = all_real && one;
    }
  }
  if (!all_real) inputs.attention_mask = std::move(cells);
  step.inputs = std::move(inputs);
  return step;
}

}  // namespace ps
