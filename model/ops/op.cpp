#include "model/ops/op.h"

#include "core/text.h"

namespace ps {
namespace {

bool type_fits(char type, DType dtype) {
  switch (type) {
    case 'S':
    case 'W':
      return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
    case 'f':
      return dtype == DType::kF32;
    case 'i':
      return dtype == DType::kI64;
    case 'b':
      return dtype == DType::kBool;
    default:
      return false;
  }
}

}  // namespace

Schema parse_schema(std::string_view text) {
  Schema schema;
  const std::size_t bar = text.find('|');
  for (const std::string& word : split_at(text.substr(0, bar), ' ')) {
    if (word.empty()) continue;
    const std::size_t mark = word.find_first_of(":>");
    const std::size_t open = word.find('[');
    PS_CHECK(mark != std::string::npos && open != std::string::npos && word.back() == ']',
             "schema word " + word);
    schema.operands.push_back(
        {.name = word.substr(0, mark),
         .type = word[mark + 1],
         .output = word[mark] == '>',
         .axes = split_at(std::string_view(word).substr(open + 1, word.size() - open - 2), ',')});
  }
  if (bar != std::string_view::npos) {
    for (const std::string& word : split_at(text.substr(bar + 1), ' ')) {
      if (!word.empty()) schema.scalars.push_back(word);
    }
  }
  return schema;
}

std::string OpCall::describe() const {
  std::string text(op->name);
  for (const Array& array : arrays) text.append(" ").append(array.describe());
  return text;
}

DType OpCall::storage(const Schema& schema, char type) const {
  for (std::size_t i = 0; i < schema.operands.size(); ++i) {
    if (schema.operands[i].type == type) return arrays[i].dtype();
  }
  return DType::kF32;
}

// Runs before every launch, so it builds no text unless something is wrong.
void OpCall::check(const Schema& schema) const {
  PS_CHECK(arrays.size() == schema.operands.size() && scalars.size() == schema.scalars.size(),
           describe() + ": the schema is " + std::string(op->schema));
  std::vector<std::pair<std::string_view, std::int64_t>> axes;  // sizes seen so far
  const auto size_of_axis = [&](std::string_view name, std::int64_t size) {
    for (const auto& [seen, first] : axes) {
      if (seen == name) return first;
    }
    axes.emplace_back(name, size);
    return size;
  };
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const Operand& operand = schema.operands[i];
    const Array& array = arrays[i];
    const auto where = [&] { return describe().append(": operand ").append(operand.name); };
    PS_CHECK(type_fits(operand.type, array.dtype()), where().append(" has the wrong type"));
    PS_CHECK(array.dtype() == storage(schema, operand.type),
             where().append(" differs in type from the operands before"));
    PS_CHECK(array.ndim() == static_cast<int>(operand.axes.size()),
             where().append(" has the wrong number of axes"));
    const int last = array.ndim() - 1;
    PS_CHECK(array.stride(last) == 1 || array.size(last) <= 1 || array.count() == 0,
             where().append(" has a last axis with a stride"));
    for (int axis = 0; axis < array.ndim(); ++axis) {
      const std::string& name = operand.axes[static_cast<std::size_t>(axis)];
      const std::int64_t size = size_of_axis(name, array.size(axis));
      PS_CHECK(size == array.size(axis),
               where().append(" axis " + name + " should be ").append(std::to_string(size)));
    }
  }
}

void note_unwritten(const OpCall& call, const LaunchShadow& shadow, CheckLog& log) {
  const Schema schema = parse_schema(call.op->schema);
  for (std::size_t i = 0; i < call.arrays.size(); ++i) {
    const Array& array = call.arrays[i];
    if (!schema.operands[i].output || array.count() == 0) continue;
    std::vector<std::int64_t> at(static_cast<std::size_t>(array.ndim()));
    for (std::int64_t n = array.count(); n > 0; --n) {
      std::int64_t offset = 0;
      for (int axis = 0; axis < array.ndim(); ++axis)
        offset += at[static_cast<std::size_t>(axis)] * array.stride(axis);
      const auto cell = shadow.cells.find(static_cast<const std::byte*>(array.data()) +
                                          offset * size_of(array.dtype()));
      if (cell == shadow.cells.end() || cell->second.write_phase < 0) {
        log.note(log.unwritten,
                 call.describe() + ": a cell of " + schema.operands[i].name + " was not written");
      }
      for (int axis = array.ndim() - 1; axis >= 0; --axis) {
        if (++at[static_cast<std::size_t>(axis)] < array.size(axis)) break;
        at[static_cast<std::size_t>(axis)] = 0;
      }
    }
  }
}

}  // namespace ps
