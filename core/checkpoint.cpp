#include "core/checkpoint.h"

#include <algorithm>
#include <utility>

#include "core/file.h"
#include "core/json.h"
#include "core/same_bytes.h"

namespace ps {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kHead = "lm_head.weight";

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Result<std::vector<fs::path>> weight_files_by_suffix(const fs::path& dir) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".safetensors") files.push_back(it->path());
  }
  if (error) return bad_input(dir.string(), "cannot be listed", "", error.message());
  return files;
}

// A shard is named relative to the checkpoint and stays inside it. (Links may lead elsewhere: that
// is how the Hugging Face cache keeps its files.)
bool stays_inside(const fs::path& file) {
  if (file.empty() || file.is_absolute() || !file.has_filename()) return false;
  return std::none_of(file.begin(), file.end(), [](const fs::path& part) { return part == ".."; });
}

struct IndexEntry {
  std::string tensor;
  std::string file;
};

Result<std::vector<IndexEntry>> read_index(const fs::path& path) {
  const std::string where = path.string();
  PS_TRY(const std::string text, read_text(path));
  PS_TRY(const Json root, parse_json(text, where));
  const Json* map = root.find("weight_map");
  if (map == nullptr || !map->is(Json::Kind::kObject)) {
    return bad_input(where, "needs weight_map, an object from tensor to file", "",
                     map == nullptr ? "none" : map->brief());
  }
  std::vector<IndexEntry> entries;
  entries.reserve(map->items.size());
  for (std::size_t i = 0; i < map->items.size(); ++i) {
    const Json& file = map->items[i];
    if (!file.is(Json::Kind::kString)) {
      return bad_input(where,
                       "weight_map of " + json_quoted(map->names[i]) + " must be a file name",
                       "a string", file.brief());
    }
    if (file.text.find('\0') != std::string::npos || !stays_inside(file.text)) {
      return bad_input(where,
                       "weight_map of " + json_quoted(map->names[i]) +
                           " leads out of the checkpoint's directory",
                       "a file in it", file.brief());
    }
    entries.push_back({map->names[i], fs::path(file.text).lexically_normal().string()});
  }
  return entries;
}

// Older checkpoints store RoPE's frequencies; they follow from the config and are not read.
bool is_stored_frequency(std::string_view name) { return name.ends_with("rotary_emb.inv_freq"); }

CheckpointIssue missing_issue(const WeightSpec& spec, const ModelConfig& config) {
  std::string message = "missing: the config asks for it";
  if (spec.name == kHead && !config.tie_word_embeddings) {
    message += ", for tie_word_embeddings is false";
  }
  return {CheckpointIssue::Kind::kMissing, true, spec.name, to_string(spec.shape), "", message};
}

std::optional<CheckpointIssue> tensor_issue(const WeightSpec& spec, const TensorView& found) {
  if (found.shape != spec.shape) {
    return CheckpointIssue{CheckpointIssue::Kind::kShape,
                           true,
                           spec.name,
                           to_string(spec.shape),
                           to_string(found.shape),
                           "has another shape than the config asks for"};
  }
  if (is_floating(found.dtype) && size_of(found.dtype) > 1) return std::nullopt;
  const bool float8 = is_floating(found.dtype);
  return CheckpointIssue{CheckpointIssue::Kind::kDType,
                         true,
                         spec.name,
                         "F64, F32, F16 or BF16",
                         std::string(safetensors_name(found.dtype)),
                         float8 ? "quantised weights (float8) are not supported"
                                : "weights must be floating; quantised weights are not supported"};
}

}  // namespace

Result<std::shared_ptr<Checkpoint>> Checkpoint::open(const fs::path& dir) {
  std::error_code ignored;
  if (!fs::is_directory(dir, ignored)) {
    return bad_input(dir.string(), is_there(dir) ? "is no directory" : "does not exist",
                     "a model directory");
  }
  std::vector<fs::path> files;
  std::vector<IndexEntry> index;
  if (is_there(dir / kSingle)) {
    files.push_back(dir / kSingle);
  } else if (is_there(dir / kIndex)) {
    PS_TRY(index, read_index(dir / kIndex));
    std::set<std::string> names;
    for (const IndexEntry& entry : index) names.insert(entry.file);
    for (const std::string& name : names) {
      if (!is_there(dir / name)) {
        return bad_input((dir / kIndex).string(), "the shard " + json_quoted(name) + " is missing");
      }
      files.push_back(dir / name);
    }
  } else {
    PS_TRY(files, weight_files_by_suffix(dir));
    if (files.size() != 1) {
      return bad_input(
          dir.string(), "has no weights",
          std::string(kSingle) + ", " + std::string(kIndex) + " or a single *.safetensors file",
          files.empty() ? "none of them" : std::to_string(files.size()) + " *.safetensors files");
    }
  }

  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->dir_ = dir;
  std::map<std::string, std::string, std::less<>> file_of;  // tensor to file
  for (const fs::path& path : files) {
    PS_TRY(SafetensorsFile file, SafetensorsFile::open(path));
    for (const SafetensorsFile::Entry& entry : file.entries()) {
      const auto [at, fresh] = file_of.emplace(entry.name, path.lexically_relative(dir).string());
      if (!fresh) {
        return bad_input(path.string(), "tensor " + json_quoted(entry.name) + " stands in " +
                                            at->second + ", too: only one shard may hold it");
      }
      checkpoint->tensors_.emplace(entry.name, entry.view);
    }
    checkpoint->files_.push_back(std::move(file));
  }
  for (const IndexEntry& entry : index) {
    const auto found = file_of.find(entry.tensor);
    if (found == file_of.end() || found->second != entry.file) {
      return bad_input(
          (dir / kIndex).string(),
          "weight_map names tensor " + json_quoted(entry.tensor) + ", which the shard lacks",
          entry.file, found == file_of.end() ? "no shard has it" : found->second);
    }
  }
  return checkpoint;
}

std::shared_ptr<Checkpoint> Checkpoint::of(Tensors tensors, std::shared_ptr<const void> kept) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->tensors_ = std::move(tensors);
  checkpoint->kept_ = std::move(kept);
  return checkpoint;
}

const TensorView* Checkpoint::find(std::string_view name) const {
  const TensorView* view = peek(name);
  if (view != nullptr) {
    const std::lock_guard lock(mutex_);
    read_.emplace(name);
  }
  return view;
}

const TensorView* Checkpoint::peek(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, view] : tensors_) names.push_back(name);
  return names;
}

std::vector<std::string> Checkpoint::never_read() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, view] : tensors_) {
    if (!read_.contains(name)) names.push_back(name);
  }
  return names;
}

std::vector<CheckpointIssue> Checkpoint::compare(const ModelConfig& config) const {
  std::vector<CheckpointIssue> issues;
  std::set<std::string, std::less<>> expected;
  for (const WeightSpec& spec : expected_weights(config)) {
    const TensorView* found = peek(spec.name);
    if (found == nullptr) {
      if (count_of(spec.shape) != 0) issues.push_back(missing_issue(spec, config));
    } else if (auto issue = tensor_issue(spec, *found)) {
      issues.push_back(*std::move(issue));
    }
    expected.insert(spec.name);
  }
  for (const auto& [name, view] : tensors_) {
    if (expected.contains(name) || is_stored_frequency(name)) continue;
    if (config.tie_word_embeddings && name == kHead) {
      const TensorView* embedding = peek(kEmbedding);
      if (embedding != nullptr && !same_bytes(*embedding, view)) {
        issues.push_back({CheckpointIssue::Kind::kTiedDiffers, true, name,
                          "the bytes of " + std::string(kEmbedding), "other bytes",
                          "tie_word_embeddings is true, but this differs from the embedding"});
      }
      continue;
    }
    issues.push_back({CheckpointIssue::Kind::kUnexpected, false, name, "", to_string(view.shape),
                      "nothing in the config asks for it; it will not be read"});
  }
  return issues;
}

Result<Model> open_model(const fs::path& dir) {
  PS_TRY(ModelConfig config, load_config(dir));
  PS_TRY(std::shared_ptr<Checkpoint> checkpoint, Checkpoint::open(dir));
  const std::vector<CheckpointIssue> issues = checkpoint->compare(config);
  const auto is_error = [](const CheckpointIssue& issue) { return issue.error; };
  const auto first = std::find_if(issues.begin(), issues.end(), is_error);
  if (first != issues.end()) {
    const auto more = std::count_if(first, issues.end(), is_error) - 1;
    std::string message = first->message;
    if (more > 0) message += " (and " + std::to_string(more) + " more such problems)";
    return bad_input(dir.string() + ": " + first->tensor, std::move(message), first->expected,
                     first->found);
  }
  return Model{std::move(config), std::move(checkpoint)};
}

}  // namespace ps
