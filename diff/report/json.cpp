// report.json, by the letter of spec cli.md.
#include <cmath>

#include <nlohmann/json.hpp>

#include "diff/report/report.h"

namespace ps {

namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN and no infinity: they are null, and `status` says nonfinite.
Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

Json object(const std::vector<std::pair<std::string, std::string>>& fields) {
  Json out = Json::object();
  for (const auto& [name, text] : fields) {
    Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    out[name] = value.is_discarded() ? Json(text) : std::move(value);
  }
  return out;
}

Json finding_json(const Finding& f) {
  return {{"id", f.id},
          {"class", f.fault_class},
          {"severity", to_string(f.severity)},
          {"step", f.step},
          {"rank", f.rank},
          {"point", f.point},
          {"where", f.where},
          {"message", f.message},
          {"evidence", object(f.evidence)},
          {"fix", f.fix},
          {"confidence", to_string(f.confidence)}};
}

Json point_json(const PointRow& p) {
  return {{"step", p.step},
          {"rank", p.rank},
          {"point", p.point},
          {"shape", p.shape},
          {"dtype", p.dtype},
          {"status", to_string(p.status)},
          {"max_abs", number(p.max_abs)},
          {"rel_l2", number(p.rel_l2)},
          {"max_ulp", p.max_ulp},
          {"ratio", number(p.ratio)},
          {"compared", p.compared},
          {"ignored", p.ignored}};
}

}  // namespace

std::string json_string(std::string_view text) {
  return Json(std::string(text)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string report_json(const Report& report) {
  Json out;
  out["format"] = "parscope-report/1";
  out["verdict"] = to_string(report.verdict);
  out["first_divergence"] = nullptr;
  if (report.first_divergence) {
    const FirstDivergence& d = *report.first_divergence;
    out["first_divergence"] = {
        {"step", d.step}, {"rank", d.rank}, {"point", d.point}, {"where", d.where}};
  }
  out["points"] = Json::array();
  for (const PointRow& p : report.points) out["points"].push_back(point_json(p));
  out["findings"] = Json::array();
  for (const Finding& f : report.findings) out["findings"].push_back(finding_json(f));
  out["blind_spots"] = Json::array();
  for (const BlindSpot& b : report.blind_spots) {
    out["blind_spots"].push_back({{"id", b.id}, {"why", b.why}});
  }
  out["power"] = report.power ? number(*report.power) : Json(nullptr);
  out["environment"] = object(report.environment);
  out["inputs"] = object(report.inputs);
  out["timing"] = object(report.timing);
  if (report.baseline) {
    const BaselineUse& b = *report.baseline;
    out["baseline"] = {
        {"file", b.file}, {"accepted", b.accepted}, {"gone", b.gone}, {"new_points", b.new_points}};
  }
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace ps
