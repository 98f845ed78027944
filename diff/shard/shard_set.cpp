#include "diff/shard/shard_set.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace ps {

namespace {

namespace fs = std::filesystem;

bool digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

// The number at `at`, or -1; `end` is set behind it.
std::int64_t number_at(std::string_view text, std::size_t at, std::size_t* end = nullptr) {
  std::int64_t value = -1;
  std::size_t last = at;
  while (last < text.size() && digit(text[last])) ++last;
  if (last > at) {
    const auto parsed = std::from_chars(text.data() + at, text.data() + last, value);
    if (parsed.ec != std::errc{}) value = -1;
  }
  if (end != nullptr) *end = last;
  return value;
}

// "tp4/rank0/NAME" or "rank0/NAME" or "rank0.NAME": the rank, and NAME; -1 for other names.
std::int64_t split_rank(std::string_view& name) {
  std::string_view rest = name;
  if (rest.starts_with("tp") && rest.size() > 2 && digit(rest[2])) {
    const std::size_t slash = rest.find('/');
    if (slash == std::string_view::npos) return -1;
    rest.remove_prefix(slash + 1);
  }
  if (!rest.starts_with("rank")) return -1;
  std::size_t begin = 4, end = 0;
  if (begin < rest.size() && (rest[begin] == '_' || rest[begin] == '-')) ++begin;
  const std::int64_t rank = number_at(rest, begin, &end);
  if (rank < 0 || end >= rest.size() || (rest[end] != '/' && rest[end] != '.')) return -1;
  name = rest.substr(end + 1);
  return rank;
}

std::string plain_name(std::string_view name) {
  if (name.starts_with("module.")) name.remove_prefix(7);
  if (name.starts_with("model.")) name.remove_prefix(6);
  return std::string(name);
}

Result<void> add_file(const fs::path& path, std::int64_t rank_of_name, ShardSet& out) {
  PS_TRY(SafetensorsFile file, SafetensorsFile::open(path));
  for (const SafetensorsFile::Entry& entry : file.entries()) {
    std::string_view name = entry.name;
    const std::int64_t inside = split_rank(name);
    const std::int64_t rank = inside >= 0 ? inside : rank_of_name;
    if (rank < 0) {
      return bad_input(path.string(), "does not say whose shard it is",
                       "a rank in the file's name (rank0.safetensors) or before its tensors' "
                       "names (rank0/...)",
                       entry.name);
    }
    if (!out.ranks[rank].emplace(plain_name(name), entry.view).second) {
      return bad_input(path.string(),
                       "rank " + std::to_string(rank) + " has " + plain_name(name) + " twice");
    }
  }
  if (file.entries().empty() && rank_of_name >= 0) out.ranks[rank_of_name];
  out.files.push_back(std::move(file));
  return {};
}

}  // namespace

void ShardSet::strip(std::string_view root) {
  if (root.empty()) return;
  for (auto& [rank, tensors] : ranks) {
    std::map<std::string, TensorView> renamed;
    for (auto& [name, view] : tensors) {
      renamed.emplace(name.starts_with(root) ? name.substr(root.size()) : name, view);
    }
    tensors = std::move(renamed);
  }
}

const TensorView* ShardSet::find(std::int64_t rank, const std::string& dest) const {
  const auto tensors = ranks.find(rank);
  if (tensors == ranks.end()) return nullptr;
  const auto found = tensors->second.find(dest);
  return found == tensors->second.end() ? nullptr : &found->second;
}

std::int64_t rank_in_name(const std::string& name) {
  const std::size_t word = name.rfind("rank");
  if (word != std::string::npos) {
    std::size_t at = word + 4;
    while (at < name.size() && (name[at] == '_' || name[at] == '-' || name[at] == '.')) ++at;
    const std::int64_t rank = number_at(name, at);
    if (rank >= 0) return rank;
  }
  const std::size_t of = name.find("-of-");
  if (of != std::string::npos) {
    std::size_t begin = of;
    while (begin > 0 && digit(name[begin - 1])) --begin;
    const std::int64_t number = number_at(name, begin);
    if (number >= 1) return number - 1;
  }
  for (std::size_t end = name.size(); end > 0; --end) {
    if (!digit(name[end - 1])) continue;
    std::size_t begin = end;
    while (begin > 0 && digit(name[begin - 1])) --begin;
    return number_at(name, begin);
  }
  return -1;
}

Result<ShardSet> open_shards(const fs::path& path) {
  ShardSet out;
  std::error_code ec;
  if (!fs::exists(path, ec)) return bad_input(path.string(), "does not exist", "shards");
  if (!fs::is_directory(path, ec)) {
    PS_TRY_VOID(add_file(path, rank_in_name(path.stem().string()), out));
    return out;
  }
  std::vector<std::pair<std::int64_t, fs::path>> files;
  for (fs::directory_iterator it(path, ec), end; !ec && it != end; it.increment(ec)) {
    if (it->is_directory(ec)) {
      const std::int64_t rank = rank_in_name(it->path().filename().string());
      std::error_code inner;
      for (fs::directory_iterator in(it->path(), inner), last; rank >= 0 && !inner && in != last;
           in.increment(inner)) {
        if (in->path().extension() == ".safetensors") files.emplace_back(rank, in->path());
      }
    } else if (it->path().extension() == ".safetensors") {
      files.emplace_back(rank_in_name(it->path().stem().string()), it->path());
    }
  }
  if (ec) return bad_input(path.string(), "cannot be listed", "", ec.message());
  std::sort(files.begin(), files.end());
  for (const auto& [rank, file] : files) PS_TRY_VOID(add_file(file, rank, out));
  if (out.ranks.empty()) {
    return bad_input(path.string(), "holds no shards", "a .safetensors file a rank");
  }
  return out;
}

}  // namespace ps
