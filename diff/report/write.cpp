#include "diff/report/write.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <utility>

#include "core/file.h"
#include "core/temp_file.h"
#include "diff/picture/heatmap.h"
#include "diff/picture/png.h"
#include "diff/report/forms.h"
#include "diff/report/strip.h"
#include "diff/report/strip_picture.h"
#include "diff/report/words.h"

namespace ps {

namespace {

constexpr std::size_t kMostPictures = 8;

std::string shape_words(const Shape& shape, std::size_t first, std::size_t last) {
  std::string out;
  for (std::size_t i = first; i < last; ++i)
    out += (out.empty() ? "" : " x ") + std::to_string(shape[i]);
  return out.empty() ? "1" : out;
}

// "[1,0,3]" of a flat index.
std::string index_text(const Shape& shape, std::int64_t flat) {
  std::string out;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    const std::int64_t size = std::max<std::int64_t>(shape[axis], 1);
    out = std::to_string(flat % size) + (out.empty() ? "" : ",") + out;
    flat /= size;
  }
  return "[" + out + "]";
}

ReportPicture tensor_picture(const TensorPicture& picture, std::size_t number) {
  const ErrorGrid& grid = picture.grid;
  const std::size_t axes = picture.shape.size();
  HeatmapLabels labels;
  labels.title = picture.point + " " + to_string(picture.shape) + ", step " +
                 std::to_string(picture.step) + ", rank " + std::to_string(picture.rank);
  labels.subtitle = std::to_string(grid.over) + " of " + std::to_string(count_of(picture.shape)) +
                    " cells over the bound";
  if (grid.over > 0) {
    const std::string worst = ratio_text(grid.largest);
    labels.subtitle += ", the worst " + (worst == "not finite" ? worst : worst + " the bound") +
                       " at " + index_text(picture.shape, grid.largest_at);
  }
  labels.rows = shape_words(picture.shape, 0, axes == 0 ? 0 : axes - 1);
  if (axes > 2) labels.rows += " (the numbers: first axis)";
  labels.columns = shape_words(picture.shape, axes == 0 ? 0 : axes - 1, axes);
  labels.row_groups = axes > 2 ? picture.shape[0] : 1;
  return {"tensor-" + std::to_string(number) + ".png", labels.title + ": " + labels.subtitle,
          png_bytes(draw_heatmap(grid, labels, Theme::kLight)),
          png_bytes(draw_heatmap(grid, labels, Theme::kDark))};
}

std::vector<ReportPicture> pictures_of(const Report& report, const std::string& subject,
                                       const ReportOptions& options) {
  std::vector<ReportPicture> out;
  const Strip strip = strip_of(report);
  if (!strip.empty()) {
    const std::string title = plain(subject) + ": " + headline(report);
    const std::string first =
        report.first_divergence ? "first divergence: " + plain(place_text(*report.first_divergence))
                                : points_summary(report);
    out.push_back({"strip.png", "error over the bound that rounding explains, ops by layers",
                   png_bytes(draw_strip(strip, title, first, Theme::kLight)),
                   png_bytes(draw_strip(strip, title, first, Theme::kDark))});
  }
  const std::size_t n = std::min(options.pictures.size(), kMostPictures);
  for (std::size_t i = 0; i < n; ++i) out.push_back(tensor_picture(options.pictures[i], i + 1));
  return out;
}

// An earlier report in this folder may have had more of them.
void remove_old_pictures(const std::filesystem::path& dir) {
  std::error_code ignored;
  for (const char* name : {"strip.png", "view-divergence.png", "view-replicas.png"})
    std::filesystem::remove(dir / name, ignored);
  for (std::size_t i = 1; i <= kMostPictures; ++i) {
    std::filesystem::remove(dir / ("tensor-" + std::to_string(i) + ".png"), ignored);
  }
}

Result<void> append_summary(const std::string& markdown) {
  const char* path = std::getenv("GITHUB_STEP_SUMMARY");
  if (path == nullptr || *path == '\0') return {};
  std::ofstream file(path, std::ios::binary | std::ios::app);
  file << markdown << "\n";
  file.flush();
  if (!file) return bad_input(path, "cannot append the step summary ($GITHUB_STEP_SUMMARY)");
  return {};
}

}  // namespace

Result<void> prepare_report_dir(const std::filesystem::path& dir) {
  PS_TRY_VOID(ensure_directory(dir));
  // Gone again when it goes out of scope.
  PS_TRY(const TempFile probe, TempFile::create(dir / "report.json"));
  return {};
}

Result<void> write_reports(const Report& report, const std::string& subject,
                           const ReportOptions& options) {
  const std::string artifact = options.artifact.empty() ? subject : options.artifact;
  if (!options.dir.empty()) {
    PS_TRY_VOID(prepare_report_dir(options.dir));
    std::vector<ReportPicture> pictures = pictures_of(report, subject, options);
    if (options.more && exit_code(report) != 0) {
      for (ReportPicture& p : options.more(report, options.dir)) pictures.push_back(std::move(p));
    }
    std::vector<std::pair<std::string, std::string>> files;
    for (const ReportPicture& p : pictures) files.emplace_back(p.file, p.light_png);
    files.emplace_back("junit.xml", report_junit(report, subject));
    files.emplace_back("sarif.json", report_sarif(report, artifact));
    files.emplace_back("report.md", report_markdown(report, subject, pictures));
    files.emplace_back("report.html", report_html(report, subject, pictures));
    files.emplace_back("report.json", report_json(report));  // last: the others are there with it
    remove_old_pictures(options.dir);
    for (const auto& [name, text] : files) PS_TRY_VOID(write_text(options.dir / name, text));
  }
  if (options.github) {
    if (options.annotations != nullptr) {
      const std::string lines = report_annotations(report, subject, artifact);
      std::fwrite(lines.data(), 1, lines.size(), options.annotations);
    }
    PS_TRY_VOID(append_summary(report_markdown(report, subject, {})));
  }
  return {};
}

}  // namespace ps
