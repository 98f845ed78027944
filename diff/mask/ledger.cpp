#include "diff/mask/ledger.h"

#include <map>
#include <set>
#include <tuple>

#include "diff/mask/check.h"

namespace ps::mask {

namespace {

struct Event {
  std::string id, message, fix;
  bool operator<(const Event& other) const {
    return std::tie(id, message) < std::tie(other.id, other.message);
  }
};
struct Seen {
  std::int64_t count = 0, layer = -1, step = -1;
  std::set<std::string> reasons;
};

}  // namespace

Result<std::vector<Finding>> check_ledger(const Json& json, const std::string& where) {
  if (!json.is(Json::Kind::kArray)) {
    return bad_input(where, "not an attention ledger", "a list of calls", json.brief());
  }
  PS_TRY(const std::vector<BackendEvent> events, read_backends(json, where + "#"));
  return backend_findings(events);
}

std::vector<Finding> backend_findings(const std::vector<BackendEvent>& events) {
  std::map<Event, Seen> seen;
  for (const BackendEvent& call : events) {
    const bool attention = call.op == "attention";
    const auto happened = [&](Event event) {
      Seen& s = seen[std::move(event)];
      if (s.count++ == 0) {
        s.layer = call.layer;
        s.step = call.step;
      }
      if (!call.reason.empty()) s.reasons.insert(call.reason);
    };
    if (call.fell_back()) {
      happened({"MK050",
                (attention ? "" : call.op + ": ") + call.requested + " was asked for and " +
                    call.executed + " ran",
                attention ? "make a fallback an error: its mask is another one (is_causal forgets "
                            "segments)"
                          : "make a fallback an error: what ran is not what was to be tested"});
    }
    if (!call.device.empty() && !call.mask_device.empty() && call.device != call.mask_device) {
      happened({"MK027",
                "the mask's tensors are on " + call.mask_device + ", the queries on " + call.device,
                "copy them once per device, not inside the mask function"});
    }
    if (!call.mask_dtype.empty() && call.mask_dtype != "bool" && call.mask_dtype != "torch.bool") {
      happened({"MK028", "the mask is " + call.mask_dtype + ", not bool", "return a bool tensor"});
    }
  }
  std::vector<Finding> out;
  for (const auto& [event, s] : seen) {
    std::string at;
    if (s.layer >= 0) at = "layer=" + std::to_string(s.layer);
    if (s.step >= 0) at += (at.empty() ? "step=" : " step=") + std::to_string(s.step);
    Finding f = mask_finding(
        event.id, Severity::kError, at,
        event.message + ", " + std::to_string(s.count) + (s.count == 1 ? " call" : " calls"));
    f.step = s.step < 0 ? 0 : s.step;
    f.evidence.emplace_back("count", std::to_string(s.count));
    std::string reasons;
    for (const std::string& r : s.reasons) reasons += (reasons.empty() ? "" : ",") + json_quoted(r);
    f.evidence.emplace_back("reasons", "[" + reasons + "]");
    f.fix = event.fix;
    out.push_back(std::move(f));
  }
  return out;
}

Result<std::vector<Finding>> check_step_list(const Json& json, const std::string& where) {
  if (!json.is(Json::Kind::kArray)) {
    return bad_input(where, "not a list of steps", "a list of mask programs", json.brief());
  }
  std::vector<Program> steps;
  constexpr std::int64_t kMostCells = std::int64_t{1} << 30;
  for (std::size_t i = 0; i < json.items.size(); ++i) {
    const std::string at = "/" + std::to_string(i);
    PS_TRY(Program p, parse_program(json.items[i], where, at));
    const auto& [B, H, Q, KV] = p.dims;
    if (Q > kMostCells || B * H * Q > kMostCells / std::max<std::int64_t>(KV, 1)) {
      return bad_input(where + "#" + at, "too large to compare steps", "2^30 pairs",
                       to_string(p.dims));
    }
    steps.push_back(std::move(p));
  }
  return check_steps(steps);
}

}  // namespace ps::mask
