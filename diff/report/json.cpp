// report.json, by the letter of spec cli.md.
#include <cmath>
#include <cstdio>
#include <cstdlib>

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

// Six digits are enough to draw.
Json shortened(double x) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", x);
  return number(std::strtod(text, nullptr));
}
Json numbers(const std::vector<double>& values) {
  Json out = Json::array();
  for (const double x : values) out.push_back(shortened(x));
  return out;
}

Json votes_json(const ReplicaVotes& votes) {
  Json tokens = Json::array();
  for (const ReplicaToken& t : votes.tokens) {
    Json top = Json::array();
    for (const ReplicaToken::Choice& c : t.top) {
      top.push_back({{"id", c.id},
                     {"logit", shortened(c.logit)},
                     {"replica", numbers(c.replica)},
                     {"without", numbers(c.without)}});
    }
    tokens.push_back({{"step", t.step},
                      {"batch", t.batch},
                      {"token", t.token},
                      {"input_id", t.input_id},
                      {"argmax", t.argmax},
                      {"js", shortened(t.js)},
                      {"weights", numbers(t.weights)},
                      {"replica_argmax", t.replica_argmax},
                      {"without_argmax", t.without_argmax},
                      {"flips", t.flips()},
                      {"top", std::move(top)},
                      {"expected",
                       {{"argmax", t.expected_argmax},
                        {"js", shortened(t.expected_js)},
                        {"weights", numbers(t.expected_weights)},
                        {"replica_argmax", t.expected_replica_argmax}}}});
  }
  return {
      {"replicas", votes.replicas}, {"left_out", votes.left_out}, {"tokens", std::move(tokens)}};
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
  if (report.not_judged) {
    const NotJudged& n = *report.not_judged;
    Json points = Json::array();
    for (const auto& [step, point] : n.points) points.push_back({{"step", step}, {"point", point}});
    out["not_judged"] = {{"sample", n.sample}, {"layers", n.layers}, {"points", std::move(points)}};
    if (!n.rows.empty()) out["not_judged"]["rows"] = n.rows;
  }
  if (report.replicas) out["replicas"] = votes_json(*report.replicas);
  return out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace ps
