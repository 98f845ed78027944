// Deep links: `parscope:<capture>?step=0&point=...&head=3`. A failing line of a report prints one,
// and `parscope view` opens that exact spot. <capture> is a hash of what was examined, so that a
// link opened on something else says so instead of showing another cell.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/finding.h"
#include "core/result.h"
#include "core/trace.h"
#include "diff/report/report.h"

namespace ps {

// Fields keep their order. step, rank, point, finding are the place; the names of axes ("head",
// "query") are coordinates; everything else is how it is shown and belongs to the viewer.
struct DeepLink {
  std::string capture;  // 16 hex digits; empty: of whatever is open
  std::vector<std::pair<std::string, std::string>> fields;

  const std::string* find(std::string_view name) const;  // null when absent
  bool operator==(const DeepLink&) const = default;
};

std::string to_string(const DeepLink& link);
// Total: any text gives a link or an Error that says what is wrong with it.
Result<DeepLink> parse_link(std::string_view text);

// What identifies a report: verdict, points and findings; not times, not the machine.
std::string capture_of(const Report& report);
// What identifies a trace: names, types, shapes, and values spread over every tensor.
std::string capture_of(const Trace& trace);

// The place that a finding, a row, or the first divergence names. `capture` is capture_of(report).
DeepLink link_to(const std::string& capture, const Finding& finding);
DeepLink link_to(const std::string& capture, const PointRow& row);
DeepLink link_to(const std::string& capture, const FirstDivergence& place);

// "replica=1 head=3" as (axis, coordinate) pairs; words of another form are left out.
std::vector<std::pair<std::string, std::int64_t>> coordinates_of(std::string_view where);

}  // namespace ps
