// What can be said about a model directory or a trace without running anything.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/config.h"
#include "core/finding.h"
#include "core/result.h"
#include "core/trace.h"
#include "diff/report/report.h"

namespace ps {

// config.json's rules, then every tensor of the checkpoint against it. An unreadable file is an
// Error; broken rules are findings.
Result<Report> lint_model(const std::filesystem::path& dir);

// Names, shapes, types and numbers of a checkpoint whose config breaks no rule.
std::vector<Finding> checkpoint_findings(const Checkpoint& checkpoint, const ModelConfig& config);

// Nothing is compared here: findings alone make the verdict, as they make the exit code.
void judge_by_findings(Report& report);

// What a rule that a config breaks is called in a report; `point` is where the config stands.
Finding config_finding(const ConfigIssue& issue, const std::string& point);

// Names, shapes, types and inputs of every step; shapes only where the model is known (from the
// trace, or from `model`).
Result<Report> lint_trace(const std::filesystem::path& path,
                          const std::optional<std::filesystem::path>& model);
// The same of a trace that is open already.
Report lint_trace(const Trace& trace, const std::optional<ModelConfig>& config);

}  // namespace ps
