// What is open: up to a few runs, a reference, a report, masks, a model's config. Files are mapped,
// so that opening costs the same for a megabyte and for gigabytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/result.h"
#include "core/trace.h"
#include "diff/compare/axes.h"
#include "diff/mask/source.h"
#include "diff/report/report.h"

namespace ps::viewer {

// A trace with its points by canonical name.
struct Run {
  std::string name;  // the file or folder, for titles
  std::filesystem::path path;
  Trace trace;
  std::optional<ModelConfig> config;  // the manifest's, where it reads
  std::vector<std::map<std::string, const TensorView*, std::less<>>> points;  // as trace.steps()

  const TensorView* find(std::int64_t step, std::int64_t rank, std::string_view point) const;
  // Samples in the step; 0 where nothing says.
  std::int64_t batch(std::int64_t step, std::int64_t rank) const;
};
using RunPtr = std::shared_ptr<const Run>;
Result<RunPtr> open_run(const std::filesystem::path& path);

// What a file or folder is, told by its contents and not by its name alone.
enum class Kind : std::uint8_t { kTrace, kReport, kMask, kModel };
Result<Kind> kind_of(const std::filesystem::path& path);

class Session {
 public:
  // Adds what the path holds: a report replaces the one before, a trace is one more run, the first
  // mask is the expected one and the second the actual.
  Result<void> open(const std::filesystem::path& path);
  Result<void> open_reference(const std::filesystem::path& path);
  Result<void> open_model(const std::filesystem::path& path);
  void close();

  bool empty() const;
  const std::vector<RunPtr>& runs() const { return runs_; }
  RunPtr run(std::int64_t index) const;  // null when there is none
  const RunPtr& reference() const { return reference_; }
  const std::vector<std::shared_ptr<const mask::Source>>& masks() const { return masks_; }
  // Masks were opened by themselves, and nothing beside them.
  bool only_masks() const {
    return !masks_.empty() && runs_.empty() && reference_ == nullptr && report(0) == nullptr;
  }
  const std::optional<ModelConfig>& model() const { return model_; }
  // The model's config: the one that was opened, else what a trace says of it.
  const ModelConfig* config() const;

  // A report that was opened is of run 0; the others are computed from a run and the reference.
  std::shared_ptr<const Report> report(std::int64_t run) const;
  void set_report(std::int64_t run, std::shared_ptr<const Report> report);
  bool report_was_opened() const { return report_was_opened_; }
  const std::string& report_name() const { return report_name_; }

  const TensorView* actual(std::int64_t run, std::int64_t step, std::int64_t rank,
                           std::string_view point) const;
  const TensorView* expected(std::int64_t step, std::int64_t rank, std::string_view point) const;
  // The run's, else the reference's; null where neither has it.
  const TensorView* shown(std::int64_t run, std::int64_t step, std::int64_t rank,
                          std::string_view point) const {
    const TensorView* tensor = actual(run, step, rank, point);
    return tensor != nullptr ? tensor : expected(step, rank, point);
  }
  std::vector<NamedAxis> axes(std::int64_t step, std::int64_t rank, std::string_view point,
                              const Shape& shape) const;
  // Steps of forward passes and ranks that the runs or the report have, in order.
  std::vector<std::int64_t> steps() const;
  std::vector<std::int64_t> ranks() const;
  // Every point that the run, the reference or the report has in this step, in the report's order.
  std::vector<std::string> points(std::int64_t run, std::int64_t step, std::int64_t rank) const;

  // Of the first thing that was opened; what links carry. Empty when nothing is open.
  // Made when somebody asks: it reads a little of every tensor.
  const std::string& capture() const;
  std::string title() const;
  std::uint64_t version() const { return version_; }  // changes whenever anything above does

 private:
  std::vector<RunPtr> runs_;
  RunPtr reference_;
  std::vector<std::shared_ptr<const mask::Source>> masks_;
  std::optional<ModelConfig> model_;
  std::map<std::int64_t, std::shared_ptr<const Report>> reports_;
  bool report_was_opened_ = false;
  std::string report_name_;
  std::function<std::string()> make_capture_;
  mutable std::string capture_;
  std::uint64_t version_ = 0;
};

}  // namespace ps::viewer
