#include "core/safetensors_header.h"

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <utility>

#include "core/json.h"

namespace ps {

namespace {

constexpr int kDeepest = 64;
constexpr std::size_t kMostAxes = 64;

// Walks {"__metadata__": {k: v}, name: {"dtype": .., "shape": [..], "data_offsets": [a, b]}}.
class HeaderEvents final : public JsonEvents {
 public:
  explicit HeaderEvents(SafetensorsHeader& out) : out_(out) {}

  std::string on_scalar(Json&& value) override {
    switch (state_) {
      case State::kStart:
        return "a safetensors header is a JSON object";
      case State::kSkip:
        if (skip_depth_ == 0) state_ = State::kTensor;
        return {};
      case State::kMetadataValue:
        return metadata_value(std::move(value));
      case State::kDType:
        return dtype(value);
      case State::kShape:
        return axis(value);
      case State::kOffsets:
        return offset(value);
      case State::kTop:
        if (is_metadata_ && value.is(Json::Kind::kNull)) return {};
        break;
      case State::kTensor:
      case State::kMetadata:
      case State::kShapeStart:
      case State::kOffsetsStart:
      case State::kDone:
        break;
    }
    return unexpected(to_string(value.kind));
  }

  std::string on_name(std::string&& name) override {
    switch (state_) {
      case State::kTop:
        return top_name(std::move(name));
      case State::kMetadata:
        key_ = std::move(name);
        if (out_.metadata.contains(key_)) return "metadata name " + json_quoted(key_) + " twice";
        state_ = State::kMetadataValue;
        return {};
      case State::kTensor:
        return field_name(name);
      default:
        return {};  // inside a skipped field
    }
  }

  std::string on_begin(Json::Kind kind) override {
    const bool object = kind == Json::Kind::kObject;
    switch (state_) {
      case State::kStart:
        if (!object) return "a safetensors header is a JSON object";
        state_ = State::kTop;
        return {};
      case State::kTop:
        if (!object) return unexpected("a list");
        state_ = is_metadata_ ? State::kMetadata : State::kTensor;
        return {};
      case State::kShapeStart:
        if (object) return unexpected("an object");
        state_ = State::kShape;
        return {};
      case State::kOffsetsStart:
        if (object) return unexpected("an object");
        state_ = State::kOffsets;
        return {};
      case State::kSkip:
        ++skip_depth_;
        return {};
      default:
        return unexpected(to_string(kind));
    }
  }

  std::string on_end(Json::Kind) override {
    switch (state_) {
      case State::kSkip:
        if (--skip_depth_ == 0) state_ = State::kTensor;
        return {};
      case State::kShape:
      case State::kOffsets:
        state_ = State::kTensor;
        return {};
      case State::kMetadata:
        state_ = State::kTop;
        return {};
      case State::kTensor:
        return finish_tensor();
      case State::kTop:
        state_ = State::kDone;
        return {};
      default:
        return "the header ends too early";
    }
  }

 private:
  enum class State {
    kStart,
    kTop,       // between tensors
    kMetadata,  // between metadata entries
    kMetadataValue,
    kTensor,  // between a tensor's fields
    kDType,
    kShapeStart,
    kShape,
    kOffsetsStart,
    kOffsets,
    kSkip,  // in a field that we do not know
    kDone,
  };

  std::string tensor_text() const { return "tensor " + json_quoted(tensor_.name); }
  std::string unexpected(std::string_view what) const {
    const std::string place = is_metadata_ ? "__metadata__" : tensor_text();
    return place + " has " + std::string(what) + " where none belongs";
  }

  std::string top_name(std::string&& name) {
    is_metadata_ = name == "__metadata__";
    if (is_metadata_) {
      if (std::exchange(seen_metadata_, true)) return "__metadata__ stands there twice";
      return {};
    }
    tensor_ = TensorHeader{};
    tensor_.name = std::move(name);
    has_dtype_ = has_shape_ = has_offsets_ = false;
    return {};
  }

  std::string field_name(const std::string& name) {
    bool twice = false;
    if (name == "dtype") {
      twice = std::exchange(has_dtype_, true);
      state_ = State::kDType;
    } else if (name == "shape") {
      twice = std::exchange(has_shape_, true);
      state_ = State::kShapeStart;
    } else if (name == "data_offsets") {
      twice = std::exchange(has_offsets_, true);
      offsets_ = 0;
      state_ = State::kOffsetsStart;
    } else {
      state_ = State::kSkip;  // the official reader passes over them, too
      skip_depth_ = 0;
    }
    return twice ? tensor_text() + " has " + name + " twice" : std::string();
  }

  std::string metadata_value(Json&& value) {
    if (!value.is(Json::Kind::kString)) {
      return "metadata value of " + json_quoted(key_) + " must be a string, not " +
             std::string(to_string(value.kind));
    }
    out_.metadata.emplace(std::move(key_), std::move(value.text));
    state_ = State::kMetadata;
    return {};
  }

  std::string dtype(const Json& value) {
    const std::optional<DType> known =
        value.is(Json::Kind::kString) ? dtype_from_safetensors(value.text) : std::nullopt;
    if (!known) return tensor_text() + " has the unknown dtype " + value.brief();
    tensor_.dtype = *known;
    state_ = State::kTensor;
    return {};
  }

  std::string axis(const Json& value) {
    if (!value.is(Json::Kind::kInteger) || value.integer < 0) {
      return tensor_text() + " has " + value.brief() + " in its shape";
    }
    if (tensor_.shape.size() >= kMostAxes) return tensor_text() + " has too many axes";
    tensor_.shape.push_back(value.integer);
    return {};
  }

  std::string offset(const Json& value) {
    if (!value.is(Json::Kind::kInteger) || value.integer < 0) {
      return tensor_text() + " has " + value.brief() + " in its data_offsets";
    }
    if (offsets_ >= 2) return tensor_text() + " has more than two data_offsets";
    (offsets_ == 0 ? tensor_.begin : tensor_.end) = value.integer;
    ++offsets_;
    return {};
  }

  std::string finish_tensor() {
    state_ = State::kTop;
    if (!has_dtype_ || !has_shape_ || !has_offsets_ || offsets_ != 2) {
      return tensor_text() + " needs dtype, shape and two data_offsets";
    }
    if (tensor_.begin > tensor_.end) return tensor_text() + " ends before it begins";
    std::int64_t bytes = size_of(tensor_.dtype);
    bool empty = false;
    for (const std::int64_t d : tensor_.shape) {
      empty = empty || d == 0;
      // A 0 counts as 1 here: strides of an empty tensor must not overflow either.
      if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(d, 1), &bytes)) {
        return tensor_text() + " has a shape whose size overflows: " + ps::to_string(tensor_.shape);
      }
    }
    if (empty) bytes = 0;
    if (bytes != tensor_.end - tensor_.begin) {
      return tensor_text() + " has shape " + ps::to_string(tensor_.shape) + " of " +
             std::string(safetensors_name(tensor_.dtype)) + ", " + std::to_string(bytes) +
             " bytes, but its data_offsets span " + std::to_string(tensor_.end - tensor_.begin);
    }
    out_.tensors.push_back(std::move(tensor_));
    return {};
  }

  SafetensorsHeader& out_;
  State state_ = State::kStart;
  TensorHeader tensor_;
  bool is_metadata_ = false;
  bool seen_metadata_ = false;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  int offsets_ = 0;
  int skip_depth_ = 0;
  std::string key_;
};

Result<void> check_names(const std::vector<TensorHeader>& tensors, const std::string& where) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorHeader& t : tensors) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return {};
  return bad_input(where, "tensor " + json_quoted(*twice) + " stands in the header twice");
}

// Sorted by offset, each tensor begins where the one before ends, from 0 to the end of the data.
Result<void> check_tiling(const std::vector<TensorHeader>& tensors, std::int64_t data_size,
                          const std::string& where) {
  std::int64_t at = 0;
  for (const TensorHeader& t : tensors) {
    if (t.end > data_size) {
      return bad_input(where, "tensor " + json_quoted(t.name) + " lies outside the file",
                       "data_offsets within " + std::to_string(data_size), std::to_string(t.end));
    }
    if (t.begin != at) {
      return bad_input(where,
                       "tensor " + json_quoted(t.name) +
                           (t.begin < at ? " overlaps the one before" : " leaves a hole before it"),
                       "data from byte " + std::to_string(at), std::to_string(t.begin));
    }
    at = t.end;
  }
  if (at == data_size) return {};
  return bad_input(where, "the file has bytes that belong to no tensor",
                   std::to_string(at) + " bytes of data", std::to_string(data_size));
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, std::int64_t data_size,
                                                   const std::string& where) {
  SafetensorsHeader header;
  HeaderEvents events(header);
  PS_TRY_VOID(parse_json_events(json, where, kDeepest, events));
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorHeader& a, const TensorHeader& b) {
              return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
            });
  PS_TRY_VOID(check_names(header.tensors, where));
  PS_TRY_VOID(check_tiling(header.tensors, data_size, where));
  return header;
}

}  // namespace ps
