#include "diff/golden/sparse_inputs.h"

#include <cstdio>
#include <span>
#include <string>

#include "core/file.h"
#include "core/json.h"

namespace ps {

namespace {

std::string fnv1a(std::span<const std::byte> bytes) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const std::byte b : bytes) h = (h ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3u;
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(h));
  return text;
}

}  // namespace

Result<void> same_inputs(const SparseCase& golden, const std::filesystem::path& path) {
  std::error_code ec;
  if (!std::filesystem::exists(path, ec)) return {};
  PS_TRY(const std::string text, read_text(path));
  PS_TRY(const Json sums, parse_json(text, path.string()));
  for (std::size_t i = 0; i < sums.items.size(); ++i) {
    const std::string& name = sums.names[i];
    std::string mine = "nothing";
    if (name == "config") {
      const std::string config = golden.json.find("config")->dump();
      mine = fnv1a(std::as_bytes(std::span(config)));
    } else if (const TensorView* t = golden.find(name); t != nullptr) {
      mine = fnv1a(t->bytes);
    }
    if (mine != sums.items[i].text) {
      return bad_input(name, "is not the input that the case was made with", sums.items[i].text,
                       mine);
    }
  }
  return {};
}

}  // namespace ps
