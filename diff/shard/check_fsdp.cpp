#include "diff/shard/check_fsdp.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "core/same_bytes.h"
#include "diff/shard/fsdp.h"
#include "diff/shard/plan.h"

namespace ps {

namespace {

Finding fs_finding(std::string id, const std::string& point, std::int64_t rank, std::string message,
                   Severity severity = Severity::kError) {
  Finding f;
  f.id = std::move(id);
  f.fault_class = "shard";
  f.severity = severity;
  f.point = point;
  f.rank = rank;
  f.message = std::move(message);
  return f;
}

bool rows_equal(const TensorView& whole, std::int64_t offset, const TensorView& local,
                std::int64_t rows) {
  const std::int64_t row =
      whole.shape[0] > 0 ? static_cast<std::int64_t>(whole.bytes.size()) / whole.shape[0] : 0;
  return offset + rows <= whole.shape[0] &&
         static_cast<std::int64_t>(local.bytes.size()) >= rows * row &&
         (rows == 0 || std::memcmp(whole.bytes.data() + offset * row, local.bytes.data(),
                                   static_cast<std::size_t>(rows * row)) == 0);
}

bool zeros_behind(const TensorView& local, std::int64_t rows) {
  const std::int64_t row = static_cast<std::int64_t>(local.bytes.size()) / local.shape[0];
  const auto tail = local.bytes.subspan(static_cast<std::size_t>(rows * row));
  return std::all_of(tail.begin(), tail.end(), [](std::byte b) { return b == std::byte{0}; });
}

void check_tensor(const std::string& name, const TensorView& whole, const TensorView& local,
                  std::int64_t rank, std::int64_t world, Report& report) {
  const RowsOfRank own = rows_of_rank(whole.shape[0], world, rank);
  if (local.dtype != whole.dtype) {
    report.findings.push_back(fs_finding("FS007", name, rank,
                                         "is " + std::string(torch_name(local.dtype)) +
                                             ", the checkpoint's tensor " +
                                             std::string(torch_name(whole.dtype))));
    return;
  }
  Shape wanted = whole.shape;
  wanted[0] = own.rows;
  const bool same_row =
      local.shape.size() == whole.shape.size() &&
      std::equal(local.shape.begin() + 1, local.shape.end(), whole.shape.begin() + 1);
  if (!same_row) {
    report.findings.push_back(
        fs_finding("TP001", name, rank,
                   "has shape " + to_string(local.shape) + " instead of " + to_string(wanted)));
    return;
  }
  if (local.shape == wanted && rows_equal(whole, own.offset, local, own.rows)) return;
  const std::string should = "rows " + std::to_string(own.offset) + " to " +
                             std::to_string(own.offset + own.rows) + " of " +
                             std::to_string(whole.shape[0]);
  if (local.shape == whole.shape && rows_equal(whole, 0, local, whole.shape[0])) {
    report.findings.push_back(fs_finding(
        "FS001", name, rank, "is the whole tensor where a shard should be (" + should + ")"));
    return;
  }
  if (local.shape[0] > own.rows && rows_equal(whole, own.offset, local, own.rows) &&
      zeros_behind(local, own.rows)) {
    report.findings.push_back(fs_finding("FS005", name, rank,
                                         "keeps " + std::to_string(local.shape[0] - own.rows) +
                                             " rows of padding as data behind its " +
                                             std::to_string(own.rows)));
    return;
  }
  for (std::int64_t r = 0; r < world; ++r) {
    const RowsOfRank other = rows_of_rank(whole.shape[0], world, r);
    if (r == rank || other.rows != local.shape[0] || other.rows == 0 ||
        !rows_equal(whole, other.offset, local, other.rows)) {
      continue;
    }
    report.findings.push_back(fs_finding(
        "TP003", name, rank, "holds rank " + std::to_string(r) + "'s rows instead of " + should));
    return;
  }
  const bool rows_wrong = local.shape[0] != own.rows;
  report.findings.push_back(
      fs_finding(rows_wrong ? "TP001" : "TP007", name, rank,
                 rows_wrong ? "has " + std::to_string(local.shape[0]) + " rows instead of " +
                                  std::to_string(own.rows) + " (" + should + ")"
                            : "differs from the checkpoint's " + should));
}

// What every rank holds of one tensor, where all hold all of it: it was captured after the gather.
std::vector<const TensorView*> gathered(const TensorView& whole, const std::string& dest,
                                        std::int64_t world, const ShardSet& shards) {
  std::vector<const TensorView*> out;
  for (std::int64_t r = 0; r < world; ++r) {
    const TensorView* local = shards.find(r, dest);
    if (local == nullptr || local->shape != whole.shape) return {};
    out.push_back(local);
  }
  return world > 1 ? out : std::vector<const TensorView*>();
}

// Gathered values are the same on all ranks, and the checkpoint's.
void check_gathered(const std::string& name, const TensorView& whole,
                    const std::vector<const TensorView*>& copies, Report& report) {
  std::string differ;
  std::int64_t first = -1, right = 0;
  for (std::size_t r = 0; r < copies.size(); ++r) {
    if (same_bytes(*copies[r], whole)) {
      ++right;
      continue;
    }
    if (first < 0) first = static_cast<std::int64_t>(r);
    differ += (differ.empty() ? "" : ", ") + std::to_string(r);
  }
  const bool all_alike = std::all_of(copies.begin(), copies.end(), [&](const TensorView* copy) {
    return same_bytes(*copy, *copies[0]);
  });
  if (!all_alike) {
    report.findings.push_back(fs_finding(
        "FS004", name, first,
        "was gathered, and its values differ between ranks: " + std::to_string(right) + " of " +
            std::to_string(copies.size()) + " hold the checkpoint's, not ranks " + differ));
  } else if (copies[0]->dtype != whole.dtype) {
    report.findings.push_back(
        fs_finding("FS007", name, 0,
                   "was gathered as " + std::string(torch_name(copies[0]->dtype)) +
                       ", the checkpoint's tensor is " + std::string(torch_name(whole.dtype))));
  } else if (right == 0) {
    report.findings.push_back(
        fs_finding("TP007", name, 0, "was gathered, and on no rank is it the checkpoint's"));
  }
}

// What tensors are given or left out together: "norms", "vocabulary", "prefixes", else the module
// of the layer ("mlp") or of the model that they belong to.
std::string kind_of(const std::string& name) {
  if (name.find("prefix_") != std::string::npos) return "prefixes";
  if (name.find("norm") != std::string::npos) return "norms";
  const auto [layer, length] = layer_in_name(name);
  const bool in_layer = layer != std::string::npos;
  const std::size_t root = name.starts_with("model.") ? 6 : 0;
  const std::size_t at = in_layer ? layer + length + 1 : root;
  const std::string module = name.substr(at, name.find('.', at) - at);
  return module == "embed_tokens" || module == "lm_head" ? "vocabulary" : module;
}

// What no rank has. Files with less than half of the checkpoint, or without a whole kind of
// tensors, are a part that was given on purpose, and that is said; else what is not there is
// missing.
class Absent {
 public:
  void found(const std::string& name) {
    ++found_;
    kinds_.insert(kind_of(name));
  }
  void lacking(const std::string& name) { lacking_.push_back(name); }

  void report(Report& report) const {
    const bool part = found_ < static_cast<std::int64_t>(lacking_.size());
    std::set<std::string> noted;
    std::int64_t count = 0;
    for (const std::string& name : lacking_) {
      if (part || !kinds_.contains(kind_of(name))) {
        noted.insert(kind_of(name));
        ++count;
      } else {
        report.findings.push_back(
            fs_finding("TP007", name, 0, "is missing: no rank has such a tensor"));
      }
    }
    if (count == 0) return;
    std::string kinds;
    for (const std::string& kind : noted) kinds += (kinds.empty() ? "" : ", ") + kind;
    report.findings.push_back(
        fs_finding("shard-not-checked", "", 0,
                   std::to_string(count) + " tensors of the checkpoint are in no rank's file (of " +
                       kinds + "): they are not checked",
                   Severity::kInfo));
  }

 private:
  std::int64_t found_ = 0;
  std::set<std::string> kinds_;
  std::vector<std::string> lacking_;
};

bool may_be_absent(const std::string& name, const ModelConfig& config) {
  return name.ends_with("rotary_emb.inv_freq") ||
         (name == "lm_head.weight" && config.tie_word_embeddings);
}

}  // namespace

Result<Report> check_fsdp_shards(const Model& model, std::int64_t world, const ShardSet& shards) {
  Report report;
  for (std::int64_t r = 0; r < world; ++r) {
    if (!shards.ranks.contains(r)) {
      return bad_input("shards", "rank " + std::to_string(r) + " is missing",
                       std::to_string(world) + " ranks", std::to_string(shards.ranks.size()));
    }
  }
  std::int64_t compared = 0;
  Absent absent;
  for (const std::string& name : model.checkpoint->names()) {
    const TensorView& whole = *model.checkpoint->peek(name);
    const std::string dest = name.starts_with("model.") ? name.substr(6) : name;
    if (whole.shape.empty()) continue;
    bool any = false;
    for (std::int64_t r = 0; r < world; ++r) any = any || shards.find(r, dest) != nullptr;
    if (!any) {
      if (!may_be_absent(name, model.config)) absent.lacking(name);
      continue;
    }
    absent.found(name);
    ++compared;
    if (const auto copies = gathered(whole, dest, world, shards); !copies.empty()) {
      check_gathered(name, whole, copies, report);
      continue;
    }
    for (std::int64_t r = 0; r < world; ++r) {
      const TensorView* local = shards.find(r, dest);
      if (local != nullptr) {
        check_tensor(name, whole, *local, r, world, report);
      } else if (rows_of_rank(whole.shape[0], world, r).rows > 0) {
        report.findings.push_back(fs_finding("TP007", name, r, "is missing on this rank"));
      }
    }
    if (!shards_evenly(whole.shape[0], world)) {
      std::int64_t empty = 0;
      for (std::int64_t r = 0; r < world; ++r) {
        empty += rows_of_rank(whole.shape[0], world, r).rows == 0 ? 1 : 0;
      }
      report.findings.push_back(fs_finding(
          empty > 0 ? "FS003" : "FS002", name, world - empty,
          std::to_string(whole.shape[0]) + " rows over " + std::to_string(world) +
              " ranks do not divide evenly" +
              (empty > 0 ? ", and the last " + std::to_string(empty) + " hold none" : "") +
              ": no op may merge dim 0 before the tensor is gathered",
          Severity::kInfo));
    }
  }
  if (compared == 0) {
    return bad_input("shards", "hold no tensor of the checkpoint by name", "",
                     std::to_string(shards.ranks.begin()->second.size()) + " tensors on rank 0");
  }
  absent.report(report);
  return report;
}

}  // namespace ps
