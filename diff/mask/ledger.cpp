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
  std::map<Event, Seen> events;
  for (std::size_t i = 0; i < json.items.size(); ++i) {
    const Json& call = json.items[i];
    const std::string at = where + "#/" + std::to_string(i);
    std::map<std::string, std::string> words;
    for (const char* name :
         {"requested", "executed", "reason", "device", "mask_device", "mask_dtype"}) {
      const Json* value = call.find(name);
      if (value == nullptr) continue;
      if (!value->is(Json::Kind::kString)) {
        return bad_input(at + "/" + name, "not a string", "a string", value->brief());
      }
      words[name] = value->text;
    }
    std::int64_t numbers[2] = {-1, -1};
    for (const bool step : {false, true}) {
      const Json* value = call.find(step ? "step" : "layer");
      if (value == nullptr) continue;
      if (!value->is(Json::Kind::kInteger)) {
        return bad_input(at + (step ? "/step" : "/layer"), "not an integer", "an integer",
                         value->brief());
      }
      numbers[step ? 1 : 0] = value->integer;
    }
    if (!words.contains("requested") || !words.contains("executed")) {
      return bad_input(at, "lacks \"requested\" or \"executed\"");
    }
    const auto happened = [&](Event event) {
      Seen& s = events[std::move(event)];
      if (s.count++ == 0) {
        s.layer = numbers[0];
        s.step = numbers[1];
      }
      if (words.contains("reason")) s.reasons.insert(words["reason"]);
    };
    if (words["requested"] != words["executed"]) {
      happened({"MK050", words["requested"] + " was asked for and " + words["executed"] + " ran",
                "make a fallback an error: its mask is another one (is_causal forgets segments)"});
    }
    if (words.contains("device") && words.contains("mask_device") &&
        words["device"] != words["mask_device"]) {
      happened({"MK027",
                "the mask's tensors are on " + words["mask_device"] + ", the queries on " +
                    words["device"],
                "copy them once per device, not inside the mask function"});
    }
    if (words.contains("mask_dtype") && words["mask_dtype"] != "bool" &&
        words["mask_dtype"] != "torch.bool") {
      happened(
          {"MK028", "the mask is " + words["mask_dtype"] + ", not bool", "return a bool tensor"});
    }
  }
  std::vector<Finding> out;
  for (const auto& [event, seen] : events) {
    std::string at;
    if (seen.layer >= 0) at = "layer=" + std::to_string(seen.layer);
    if (seen.step >= 0) at += (at.empty() ? "step=" : " step=") + std::to_string(seen.step);
    Finding f = mask_finding(
        event.id, Severity::kError, at,
        event.message + ", " + std::to_string(seen.count) + (seen.count == 1 ? " call" : " calls"));
    f.step = seen.step < 0 ? 0 : seen.step;
    f.evidence.emplace_back("count", std::to_string(seen.count));
    std::string reasons;
    for (const std::string& r : seen.reasons)
      reasons += (reasons.empty() ? "" : ",") + json_quoted(r);
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
