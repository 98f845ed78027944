#include "diff/mask/step_mask.h"

#include <algorithm>

#include "diff/mask/check.h"
#include "diff/mask/forms.h"
#include "diff/mask/text.h"

namespace ps::mask {

namespace {

constexpr std::string_view kTensor = "input_mask";

const TensorView* mask_tensor(const TraceStep& step) {
  if (const TensorView* given = step.tensors->find(kTensor)) return given;
  const TensorView* usual = step.tensors->find("attention_mask");
  return usual != nullptr && usual->shape.size() == 4 ? usual : nullptr;
}

// Rows of `mask` serve the batch: all of it, or the beams of one sample each.
StepMask cells_of(const Mask& mask, const StepSize& size, std::int64_t heads) {
  StepMask out;
  out.heads = heads;
  const std::int64_t columns = size.columns(), beams = size.batch / mask.dims().B;
  out.visible.resize(static_cast<std::size_t>(size.batch * heads * size.length * columns));
  auto at = out.visible.begin();
  for (std::int64_t row = 0; row < size.batch; ++row) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const Bands& plane = mask.plane(row / beams, h);
      for (std::int64_t i = 0; i < size.length; ++i, at += columns) {
        for (const auto& [lo, hi] : plane.row(i)) std::fill(at + lo, at + hi, 1);
      }
    }
  }
  return out;
}

Result<void> check_rows_and_heads(const Dims& dims, const StepSize& size,
                                  const std::string& where) {
  if (dims.B < 1 || dims.B > size.batch || size.batch % dims.B != 0) {
    return bad_input(where, "the mask has another batch", "1 or " + std::to_string(size.batch),
                     std::to_string(dims.B));
  }
  if (dims.H != 1 && dims.H != size.heads) {
    return bad_input(where, "the mask has another number of heads",
                     "1 or " + std::to_string(size.heads), std::to_string(dims.H));
  }
  return {};
}

// [B|1, H|1, S, C], C = all columns, or those without the prefix, which is then seen by all.
Result<StepMask> mask_of_tensor(const TensorView& tensor, const StepSize& size,
                                const std::string& where) {
  const Shape& shape = tensor.shape;
  const std::int64_t keys = size.past + size.length;
  const bool whole = shape.size() == 4 && shape[3] == size.columns();
  const bool fits = shape.size() == 4 && shape[2] == size.length && (whole || shape[3] == keys);
  if (!fits) {
    return bad_input(where, "is no mask of this step [batch, head, query, key]",
                     ps::to_string(Shape{size.batch, size.heads, size.length, size.columns()}) +
                         ", batch and head may be 1",
                     ps::to_string(shape));
  }
  const Dims dims{shape[0], shape[1], shape[2], shape[3]};
  PS_TRY_VOID(check_rows_and_heads(dims, size, where));
  Result<Reading> read = read_tensor(tensor, dims, nullptr, {});
  if (!read.ok()) {
    Error error = read.error();
    error.where = where;
    return error;
  }
  for (const Finding& f : read->findings) {
    if (f.severity == Severity::kError) return bad_input(where, f.id + ": " + f.message);
  }
  if (whole) return cells_of(read->mask, size, dims.H);
  StepSize without = size;
  without.prefix = 0;
  StepMask part = cells_of(read->mask, without, dims.H);
  StepMask out;
  out.heads = part.heads;
  for (auto row = part.visible.begin(); row != part.visible.end(); row += keys) {
    out.visible.insert(out.visible.end(), static_cast<std::size_t>(size.prefix), 1);
    out.visible.insert(out.visible.end(), row, row + keys);
  }
  return out;
}

// A JSON program, or an expression.
Result<StepMask> mask_of_words(const std::string& words, const StepSize& size,
                               const std::string& where) {
  const Dims dims{size.batch, size.heads, size.length, size.columns()};
  PS_TRY(const Program program, words.starts_with('{') ? parse_program_text(words, where)
                                                       : parse_text(words, where, dims));
  return mask_of_step(program, size, where);
}

}  // namespace

Result<StepMask> mask_of_step(const Program& program, const StepSize& size,
                              const std::string& where) {
  PS_TRY_VOID(check_rows_and_heads(program.dims, size, where));
  Program p = program;
  p.dims.Q = size.length;
  p.dims.KV = size.columns();
  p.q_offset = {size.past};
  PS_TRY_VOID(validate(p, where));
  PS_TRY(const Mask mask, evaluate(p));
  return cells_of(mask, size, varies(p, p.expr).h ? p.dims.H : 1);
}

std::string mask_program_of(const TraceStep& step) {
  const auto found = step.tensors->metadata().find("mask_program");
  return found == step.tensors->metadata().end() ? std::string() : found->second;
}

bool brings_mask(const TraceStep& step) {
  return mask_tensor(step) != nullptr || !mask_program_of(step).empty();
}

Result<StepInputs> step_inputs_with_mask(const TraceStep& step, const ModelConfig& config,
                                         std::int64_t past) {
  PS_TRY(StepInputs inputs, step_inputs(step, past));
  if (!brings_mask(step)) return inputs;
  const StepSize size{inputs.batch, config.heads, inputs.length, past, config.prefix_tokens};
  const std::string file = step.tensors->where();
  const TensorView* tensor = mask_tensor(step);
  const bool named = tensor != nullptr && step.tensors->find(kTensor) != nullptr;
  const std::string name = named ? std::string(kTensor) : "attention_mask";
  PS_TRY(StepMask mask, tensor != nullptr ? mask_of_tensor(*tensor, size, file + ": " + name)
                                          : mask_of_words(mask_program_of(step), size,
                                                          file + ": metadata mask_program"));
  inputs.visible = std::move(mask.visible);
  return inputs;
}

}  // namespace ps::mask
