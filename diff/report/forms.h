// The forms of a report that are files, each as a pure function of the report.
#pragma once

#include <string>
#include <vector>

#include "diff/report/report.h"

namespace ps {

// A picture of a report, encoded.
struct ReportPicture {
  std::string file;     // "strip.png"
  std::string caption;  // "model.norm: worst 12x the bound at batch=0"
  std::string light_png;
  std::string dark_png;
};

std::string report_markdown(const Report& report, const std::string& subject,
                            const std::vector<ReportPicture>& pictures);
std::string report_html(const Report& report, const std::string& subject,
                        const std::vector<ReportPicture>& pictures);
// One testcase a point, one a finding, one for the verdict. It has failures or errors exactly when
// exit_code() is not 0.
std::string report_junit(const Report& report, const std::string& subject);
// SARIF 2.1.0; `artifact` is the file or folder that was examined.
std::string report_sarif(const Report& report, const std::string& artifact);
// Workflow commands of GitHub, one line a finding.
std::string report_annotations(const Report& report, const std::string& subject,
                               const std::string& artifact);

}  // namespace ps
