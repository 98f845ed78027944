// A step's own inputs, read from its tensors.
#include <limits>
#include <string>
#include <utility>

#include "core/trace.h"

namespace ps {

namespace {

template <class T>
void widen(const TensorView& view, std::vector<std::int64_t>& out) {
  for (const T value : view.as<T>()) out.push_back(static_cast<std::int64_t>(value));
}

Result<std::vector<std::int64_t>> integers(const TensorView& view, const std::string& where) {
  std::vector<std::int64_t> out;
  out.reserve(static_cast<std::size_t>(view.count()));
  switch (view.dtype) {
    case DType::kI64:
      widen<std::int64_t>(view, out);
      break;
    case DType::kI32:
      widen<std::int32_t>(view, out);
      break;
    case DType::kI16:
      widen<std::int16_t>(view, out);
      break;
    case DType::kI8:
      widen<std::int8_t>(view, out);
      break;
    case DType::kU64:
      widen<std::uint64_t>(view, out);
      break;
    case DType::kU32:
      widen<std::uint32_t>(view, out);
      break;
    case DType::kU16:
      widen<std::uint16_t>(view, out);
      break;
    case DType::kU8:
    case DType::kBool:
      widen<std::uint8_t>(view, out);
      break;
    default:
      return bad_input(where, "must be whole numbers", "I64",
                       std::string(safetensors_name(view.dtype)));
  }
  return out;
}

Result<std::vector<std::int64_t>> attention_mask(const TensorView& view, const std::string& where,
                                                 const Shape& expected) {
  if (view.shape != expected) {
    return bad_input(where, "has another shape than [batch, past + new tokens]",
                     to_string(expected), to_string(view.shape));
  }
  PS_TRY(std::vector<std::int64_t> values, integers(view, where));
  for (const std::int64_t value : values) {
    if (value != 0 && value != 1) {
      return bad_input(where, "holds something else than 0 and 1", "", std::to_string(value));
    }
  }
  return values;
}

Result<std::vector<std::int64_t>> position_ids(const TensorView& view, const std::string& where,
                                               std::int64_t batch, std::int64_t length) {
  const bool shared = view.shape == Shape{1, length};  // one row for all samples, as HF passes it
  if (!shared && view.shape != Shape{batch, length}) {
    return bad_input(where, "has another shape than input_ids", to_string(Shape{batch, length}),
                     to_string(view.shape));
  }
  PS_TRY(const std::vector<std::int64_t> row, integers(view, where));
  std::vector<std::int64_t> values = row;
  for (std::int64_t b = 1; shared && b < batch; ++b) {
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

}  // namespace

Result<StepInputs> step_inputs(const TraceStep& step, std::int64_t past) {
  PS_CHECK(past >= 0 && step.tensors != nullptr, "a step that was not opened");
  const std::string file = step.tensors->where();
  const TensorView* ids = step.tensors->find("input_ids");
  if (ids == nullptr) return bad_input(file, "has no input_ids", "input_ids [batch, new tokens]");
  if (ids->shape.size() != 2 || ids->count() == 0) {
    return bad_input(file + ": input_ids", "has a shape that is no input",
                     "[batch, new tokens], neither of them 0", to_string(ids->shape));
  }
  StepInputs inputs;
  inputs.batch = ids->shape[0];
  inputs.length = ids->shape[1];
  PS_TRY(inputs.input_ids, integers(*ids, file + ": input_ids"));
  // With four axes it is who sees whom, pair by pair: for those who know the mask language.
  const TensorView* mask = step.tensors->find("attention_mask");
  if (mask != nullptr && mask->shape.size() != 4) {
    const Shape expected = {inputs.batch, past + inputs.length};
    PS_TRY(inputs.attention_mask, attention_mask(*mask, file + ": attention_mask", expected));
  }
  if (const TensorView* positions = step.tensors->find("position_ids")) {
    PS_TRY(inputs.position_ids,
           position_ids(*positions, file + ": position_ids", inputs.batch, inputs.length));
  }
  return inputs;
}

}  // namespace ps
