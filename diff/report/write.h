// A report as files (--report DIR) and for GitHub (--github). Each file appears whole or not at
// all; nothing here finds anything out.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/result.h"
#include "diff/picture/grid.h"
#include "diff/report/forms.h"
#include "diff/report/report.h"

namespace ps {

// |error| / bound of one point, for a picture of where it is wrong (grid.h builds it).
struct TensorPicture {
  std::int64_t step = 0;
  std::int64_t rank = 0;
  std::string point;
  Shape shape;
  ErrorGrid grid;
};

struct ReportOptions {
  std::filesystem::path dir;  // empty: no files
  bool github = false;
  std::FILE* annotations = stdout;  // where --github's lines go; stderr when stdout is for --json
  std::string artifact;  // the file or folder that was examined, for SARIF and annotations;
                         // empty: the subject
  std::vector<TensorPicture> pictures;  // of the worst tensors; only the first few are drawn
  // Pictures that somebody else draws of a report that fails, as it is written: the viewer's.
  std::function<std::vector<ReportPicture>(const Report&, const std::filesystem::path& dir)> more;
};

// Creates the folder and proves that files can be written there. Call it before the work is done.
Result<void> prepare_report_dir(const std::filesystem::path& dir);

// report.json, report.md, report.html, junit.xml, sarif.json, strip.png, tensor-N.png in
// options.dir; annotations and $GITHUB_STEP_SUMMARY with options.github.
Result<void> write_reports(const Report& report, const std::string& subject,
                           const ReportOptions& options);

}  // namespace ps
