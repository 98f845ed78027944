// Safetensors files. The reader maps the file and is total: any bytes give a file or an Error, and
// every tensor it hands out lies inside the mapping, has the bytes its shape asks for, and shares
// none with another. A packed file (core/packed.h) is first unpacked into a temporary one. The
// writer streams to a temporary name, syncs, and renames on close.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/packing.h"
#include "core/result.h"
#include "core/tensor.h"

namespace ps {

// Whether a file's name says that it is one of these, plain or packed.
bool is_safetensors_name(const std::filesystem::path& path);

class SafetensorsFile {
 public:
  struct Entry {
    std::string name;
    TensorView view;
  };
  static Result<SafetensorsFile> open(const std::filesystem::path& path);
  // Parses bytes in memory (kept alive by the caller); what the fuzzer calls.
  static Result<SafetensorsFile> parse(std::span<const std::byte> bytes, const std::string& where);

  const std::vector<Entry>& entries() const { return entries_; }  // in order of their data
  const TensorView* find(std::string_view name) const;            // null when absent
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& where() const { return where_; }

 private:
  std::string where_;
  std::shared_ptr<const void> mapping_;  // shared: copies of the file keep the views alive
  std::vector<Entry> entries_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

class SafetensorsWriter {
 public:
  static Result<SafetensorsWriter> create(const std::filesystem::path& path, Packing packing = {});
  SafetensorsWriter(SafetensorsWriter&&) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) noexcept;
  ~SafetensorsWriter();  // without close(): nothing is left behind

  void set_metadata(std::string key, std::string value);
  Result<void> add(std::string_view name, const TensorView& value);  // data goes to disk now
  Result<void> close();                                              // the file appears here

 private:
  struct State;
  explicit SafetensorsWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ps
