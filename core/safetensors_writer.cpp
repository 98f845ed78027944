// The header stands first in the file but is known last. So data goes to a nameless file as it
// comes, packed where that is asked for, and close() writes the header and copies the data behind
// it, inside the kernel where the file system can.
#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/packed.h"
#include "core/packed_form.h"
#include "core/safetensors.h"
#include "core/temp_file.h"
#include "core/zstd.h"

namespace ps {

namespace {

struct Written {
  std::string name;
  DType dtype;
  Shape shape;
  std::int64_t bytes = 0;
  std::int64_t offset = 0;  // in the nameless file
  std::int64_t stored = 0;  // there: fewer than `bytes` where they are packed
  std::vector<PackedBlock> blocks;
};

std::string header_json(const std::vector<Written>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  const auto separate = [&] {
    if (json.size() > 1) json += ',';
  };
  if (!metadata.empty()) {
    std::string entries;
    for (const auto& [key, value] : metadata) {
      entries += (entries.empty() ? "" : ",") + json_quoted(key) + ":" + json_quoted(value);
    }
    json += "\"__metadata__\":{" + entries + "}";
  }
  std::int64_t at = 0;
  for (const Written& t : tensors) {
    separate();
    json += json_quoted(t.name) + ":{\"dtype\":\"" + std::string(safetensors_name(t.dtype)) +
            "\",\"shape\":" + to_string(t.shape) + ",\"data_offsets\":[" + std::to_string(at) +
            "," + std::to_string(at + t.bytes) + "]}";
    at += t.bytes;
  }
  json += '}';
  json.resize((json.size() + 7) / 8 * 8, ' ');  // data begins aligned, as the official writer does
  return json;
}

}  // namespace

struct SafetensorsWriter::State {
  std::filesystem::path path;
  Packing packing;
  TempFile data;
  std::int64_t size = 0;
  std::vector<Written> tensors;
  std::set<std::string, std::less<>> names;
  std::map<std::string, std::string> metadata;
};

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& path,
                                                    Packing packing) {
  if (packing.on() && !has_zstd()) return no_zstd(path.string());
  PS_TRY(TempFile data, TempFile::create_nameless(path));
  auto state = std::unique_ptr<State>(new State{path, packing, std::move(data), 0, {}, {}, {}});
  return SafetensorsWriter(std::move(state));
}

SafetensorsWriter::SafetensorsWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&&) noexcept = default;
SafetensorsWriter& SafetensorsWriter::operator=(SafetensorsWriter&&) noexcept = default;
SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::set_metadata(std::string key, std::string value) {
  PS_CHECK(state_ != nullptr, "the writer is closed");
  state_->metadata[std::move(key)] = std::move(value);
}

Result<void> SafetensorsWriter::add(std::string_view name, const TensorView& value) {
  PS_CHECK(state_ != nullptr, "the writer is closed");
  PS_CHECK(value.count() * size_of(value.dtype) == static_cast<std::int64_t>(value.bytes.size()),
           std::string(name) + ": bytes do not fit the shape");
  if (name == "__metadata__") {
    return bad_input(state_->path.string(), "__metadata__ is no tensor's name");
  }
  if (!state_->names.emplace(name).second) {
    return bad_input(state_->path.string(), "tensor " + json_quoted(name) + " was added twice");
  }
  const auto bytes = static_cast<std::int64_t>(value.bytes.size());
  Written written{std::string(name), value.dtype, value.shape, bytes, state_->size, bytes, {}};
  if (state_->packing.on()) {
    PS_TRY(written.blocks, append_packed(value, state_->packing, state_->data));
    written.stored = 0;
    for (const PackedBlock& block : written.blocks) written.stored += block.bytes;
  } else {
    PS_TRY_VOID(state_->data.append(value.bytes));
  }
  state_->size += written.stored;
  state_->tensors.push_back(std::move(written));
  return {};
}

Result<void> SafetensorsWriter::close() {
  PS_CHECK(state_ != nullptr, "the writer is closed");
  const std::unique_ptr<State> state = std::move(state_);
  // Wide elements first, else as added: no hole may stand between tensors, and so every one is
  // aligned to its own element all the same.
  std::stable_sort(
      state->tensors.begin(), state->tensors.end(),
      [](const Written& a, const Written& b) { return size_of(a.dtype) > size_of(b.dtype); });
  const std::string json = header_json(state->tensors, state->metadata);
  std::int64_t data_size = 0;
  std::vector<PackedBlock> blocks;
  for (const Written& t : state->tensors) {
    data_size += t.bytes;
    blocks.insert(blocks.end(), t.blocks.begin(), t.blocks.end());
  }
  const std::string front = state->packing.on() ? packed_front(json, data_size)
                                                : packed::little_endian(json.size(), 8) + json;
  PS_TRY(TempFile file, TempFile::create(state->path));
  PS_TRY_VOID(file.append(std::as_bytes(std::span(front))));
  for (std::size_t i = 0; i < state->tensors.size();) {
    // Neighbours in the nameless file go over in one copy.
    const std::int64_t begin = state->tensors[i].offset;
    std::int64_t end = begin;
    while (i < state->tensors.size() && state->tensors[i].offset == end) {
      end += state->tensors[i++].stored;
    }
    PS_TRY_VOID(file.append_from(state->data, begin, end - begin));
  }
  if (state->packing.on()) {
    const std::string back = packed_back(front, blocks);
    PS_TRY_VOID(file.append(std::as_bytes(std::span(back))));
  }
  return file.commit();
}

}  // namespace ps
