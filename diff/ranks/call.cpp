#include "diff/ranks/call.h"

#include <cstring>
#include <optional>

namespace ps {

namespace {

using Numbers = std::vector<std::int64_t>;

void put(std::string& out, std::int64_t value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put(std::string& out, const Numbers& values) {
  put(out, static_cast<std::int64_t>(values.size()));
  for (const std::int64_t value : values) put(out, value);
}
void put(std::string& out, const std::optional<Numbers>& values) {
  put(out, values ? 1 : 0);
  if (values) put(out, *values);
}

class Reader {
 public:
  explicit Reader(const std::string& bytes) : bytes_(bytes) {}

  std::int64_t number() {
    std::int64_t value = 0;
    if (left() < static_cast<std::int64_t>(sizeof value)) {
      ok = false;
      return 0;
    }
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  Numbers numbers() {
    const std::int64_t count = number();
    if (count < 0 || count > left() / static_cast<std::int64_t>(sizeof count)) {
      ok = false;
      return {};
    }
    Numbers out;
    for (std::int64_t i = 0; i < count; ++i) out.push_back(number());
    return out;
  }
  std::optional<Numbers> maybe() {
    if (number() == 0) return std::nullopt;
    return numbers();
  }
  std::string rest() { return bytes_.substr(at_); }
  bool ok = true;

 private:
  std::int64_t left() const { return static_cast<std::int64_t>(bytes_.size() - at_); }
  const std::string& bytes_;
  std::size_t at_ = 0;
};

}  // namespace

std::string packed(const Call& call) {
  std::string out;
  put(out, static_cast<std::int64_t>(call.op));
  put(out, call.inputs.batch);
  put(out, call.inputs.length);
  put(out, call.inputs.input_ids);
  put(out, call.inputs.attention_mask);
  put(out, call.inputs.position_ids);
  put(out, call.inputs.visible);
  put(out, call.beam_idx);
  put(out, call.beams);
  put(out, call.new_tokens);
  return out + call.wanted;
}

Result<Call> unpacked_call(const std::string& bytes) {
  Reader reader(bytes);
  Call out;
  const std::int64_t op = reader.number();
  out.op = static_cast<CallOp>(op);
  out.inputs.batch = reader.number();
  out.inputs.length = reader.number();
  out.inputs.input_ids = reader.numbers();
  out.inputs.attention_mask = reader.maybe();
  out.inputs.position_ids = reader.maybe();
  out.inputs.visible = reader.maybe();
  out.beam_idx = reader.numbers();
  out.beams = reader.number();
  out.new_tokens = reader.number();
  out.wanted = reader.rest();
  const bool known = op >= static_cast<std::int64_t>(CallOp::kForward) &&
                     op <= static_cast<std::int64_t>(CallOp::kDismiss);
  if (reader.ok && known) return out;
  return machine_error("rank 0", "asks for something that this rank does not know");
}

}  // namespace ps
