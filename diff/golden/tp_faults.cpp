// A case's planted faults: each gets its code from its shards alone, and, when the ranks run on
// them, differs first where the case says, by as much as it says.
#include <cmath>
#include <map>

#include "core/points.h"
#include "diff/golden/tp_case.h"
#include "diff/shard/check_shards.h"
#include "diff/shard/hypotheses.h"

namespace ps {

namespace {

struct Override {
  PlanRecord record;  // what the fault holds instead
  std::string op;     // "", "view", "zeros", "scale:4"
  std::string crc;
};

Result<Override> read_override(const Json& json, const Plan& plan, const std::string& where) {
  const std::size_t n = json.items.size();
  const auto is = [&](std::size_t i, Json::Kind kind) { return json.items[i].is(kind); };
  if (!json.is(Json::Kind::kArray) || n < 5 || n > 6 || !is(0, Json::Kind::kInteger) ||
      !is(1, Json::Kind::kString) || !is(2, Json::Kind::kArray) || !is(3, Json::Kind::kArray) ||
      !is(n - 2, n == 6 ? Json::Kind::kString : Json::Kind::kArray) ||
      !is(n - 1, Json::Kind::kString)) {
    return bad_input(where, "is no override", "[rank, dest, shape, parts, (op), crc]",
                     json.brief());
  }
  Override out;
  const PlanRecord* planned = plan.find(json.items[0].integer, json.items[1].text);
  if (planned == nullptr)
    return bad_input(where, "overrides nothing of the plan", "", json.brief());
  out.record = *planned;
  Shape shape;
  for (const Json& size : json.items[2].items) shape.push_back(size.integer);
  if (shape != planned->shape) {
    return bad_input(where + "/2", "another shape than the plan's", to_string(planned->shape),
                     json.items[2].brief());
  }
  out.record.parts.clear();
  for (const Json& p : json.items[3].items) {
    const bool good = p.is(Json::Kind::kArray) && p.items.size() == 5 &&
                      p.items[0].is(Json::Kind::kString) && p.items[2].is(Json::Kind::kInteger) &&
                      p.items[3].is(Json::Kind::kInteger) && p.items[4].is(Json::Kind::kInteger);
    if (!good)
      return bad_input(where + "/3", "is no part", "[src, dim, start, len, pad]", p.brief());
    ShardPart part{p.items[0].text, std::nullopt, p.items[2].integer, p.items[3].integer,
                   p.items[4].integer};
    if (p.items[1].is(Json::Kind::kInteger)) part.dim = p.items[1].integer;
    out.record.parts.push_back(std::move(part));
  }
  if (n == 6) out.op = json.items[4].text;
  // The axis is the plan's, but for a cut that is viewed in the right shape.
  const std::optional<std::int64_t> planned_dim = planned->parts[0].dim;
  for (const ShardPart& part : out.record.parts) {
    const bool same = part.dim == planned_dim;
    if (same != (out.op == "view")) continue;
    return bad_input(where + "/3", "a part is cut on an axis that its op does not explain");
  }
  // What only changes the right shard's values says which shard that is.
  const bool own = out.op == "zeros" || out.op.starts_with("scale:");
  if (own && !same_parts(out.record.parts, planned->parts)) {
    return bad_input(where + "/3", out.op + " is of the plan's own parts");
  }
  out.crc = json.items[n - 1].text;
  return out;
}

// A part that says more than its slice: null means all of it, and all of it must be said.
Result<void> check_whole_parts(const TpCase& c, const Override& o, const std::string& where) {
  for (const ShardPart& part : o.record.parts) {
    const TensorView* source = c.weights->find(part.source);
    if (source == nullptr) return bad_input(where, part.source + " is no weight");
    const bool whole = part.start == 0 && part.length == source->shape[0] && part.pad == 0;
    if (!part.dim && !whole) {
      return bad_input(where, "a part without a dim is the whole tensor",
                       "0, " + std::to_string(source->shape[0]) + ", 0",
                       std::to_string(part.start) + ", " + std::to_string(part.length) + ", " +
                           std::to_string(part.pad));
    }
  }
  return {};
}

Result<Tensor> faulty_shard(const TpCase& c, const Override& o, const std::string& where) {
  PS_TRY_VOID(check_whole_parts(c, o, where));
  PS_TRY(Tensor out, build_shard(o.record, c.sources()));
  double factor = 1;
  if (o.op == "zeros") {
    factor = 0;
  } else if (o.op.starts_with("scale:")) {
    factor = std::strtod(o.op.c_str() + 6, nullptr);
  } else if (!o.op.empty() && o.op != "view") {
    return bad_input(where, "an unknown op", "view, zeros or scale:k", o.op);
  }
  if (factor != 1) {
    for (float& x : out.as<float>()) x = factor == 0 ? 0.0F : x * static_cast<float>(factor);
  }
  const std::string crc = crc_text(float32_crc(out.view()));
  if (crc != o.crc) return bad_input(where, "its bytes have another CRC-32", crc, o.crc);
  return out;
}

// The code that the wrong shards get, each kind of tensor by itself.
Result<void> check_code(const TpCase& c, const Plan& plan, const RankShards& wrong,
                        const std::string& code, const std::string& where) {
  const SourceLookup sources = c.sources();
  std::map<std::string, std::vector<ShardQuestion>> groups;
  std::int64_t found = 0;
  for (const auto& [key, tensor] : wrong) {
    const PlanRecord* record = plan.find(key.first, key.second);
    const ShardQuestion q{&plan, &c.config, &sources, record, tensor.view()};
    // One rank's slice may be right by accident; the others name the fault.
    if (equals_plan(q)) continue;
    groups[layer_pattern(record->dest)].push_back(q);
    ++found;
  }
  if (found == 0) return bad_input(where, "changes nothing");
  for (const auto& [pattern, questions] : groups) {
    for (const Hypothesis& h : name_shards(questions)) {
      if (h.code == code && !h.loss_only && h.also.empty()) continue;
      return bad_input(where, pattern + " is named otherwise: " + h.words, code, h.code);
    }
  }
  return {};
}

Result<double> stored_number(const Json& fault, const char* name, const std::string& where) {
  const Json* value = fault.find(name);
  if (value == nullptr || (!value->is(Json::Kind::kNumber) && !value->is(Json::Kind::kInteger))) {
    return bad_input(where, std::string("needs ") + name);
  }
  return value->number;
}

Result<void> same_error(double stored, double computed, const std::string& where) {
  if (std::fabs(stored - computed) <= 1e-9 * std::fabs(computed)) return {};
  char right[40], given[40];
  std::snprintf(right, sizeof right, "%.12g", computed);
  std::snprintf(given, sizeof given, "%.12g", stored);
  return bad_input(where, "is not the error that the fault makes", right, given);
}

// The first stored point of step 0 that differs, in order of computation.
Result<void> check_effect(const TpCase& c, const Json& fault, const TpRun& run,
                          const std::string& where) {
  std::string first;
  double rel_first = 0;
  for (const auto& entry : c.acts->entries()) {
    constexpr std::string_view kStep = "f64/step0/";
    if (!entry.name.starts_with(kStep)) continue;
    const std::string point = entry.name.substr(kStep.size());
    const double rel = relative_error(c, run.steps[0].at(point).view(), entry.view, false);
    if (rel <= 1e-9 || (!first.empty() && !point_before(point, first))) continue;
    first = point;
    rel_first = rel;
  }
  const Json* expected = fault.find("first_bad_tap");
  if (expected == nullptr || expected->text != first) {
    return bad_input(where + "/first_bad_tap", "another point differs first",
                     first.empty() ? "none" : first,
                     expected == nullptr ? "nothing" : expected->text);
  }
  PS_TRY(const double stored_first, stored_number(fault, "rel_first", where));
  PS_TRY_VOID(same_error(stored_first, rel_first, where + "/rel_first"));
  PS_TRY(const double stored_logits, stored_number(fault, "rel_logits", where));
  const double rel_logits = relative_error(c, run.steps[0].at("lm_head").view(),
                                           *c.acts->find("f64/step0/lm_head"), true);
  return same_error(stored_logits, rel_logits, where + "/rel_logits");
}

Result<void> check_fault(const TpCase& c, const Json& fault, const std::string& where) {
  const Json* code = fault.find("code");
  const Json* tp = fault.find("tp");
  const Json* overrides = fault.find("overrides");
  if (code == nullptr || tp == nullptr || overrides == nullptr || overrides->items.empty()) {
    return bad_input(where, "needs code, tp and overrides");
  }
  if (tp->integer != c.tp_full) {
    return bad_input(where + "/tp", "is not the case's tp_full", std::to_string(c.tp_full),
                     tp->brief());
  }
  PS_TRY(const Plan plan, make_plan(c.config, tp->integer, {}));
  RankShards shards, wrong;
  for (const PlanRecord& record : plan.records) {
    PS_TRY(shards[std::pair(record.rank, record.dest)], build_shard(record, c.sources()));
  }
  for (std::size_t i = 0; i < overrides->items.size(); ++i) {
    const std::string at = where + "/overrides/" + std::to_string(i);
    PS_TRY(const Override o, read_override(overrides->items[i], plan, at));
    PS_TRY(Tensor shard, faulty_shard(c, o, at));
    const std::pair key(o.record.rank, o.record.dest);
    shards[key] = shard;
    wrong[key] = std::move(shard);
  }
  PS_TRY_VOID(check_code(c, plan, wrong, code->text, where));
  PS_TRY(const TpRun run,
         run_tp(c, rank_model_of(c.config, plan, std::move(shards)), DType::kF64, c.empty_rows));
  return check_effect(c, fault, run, where);
}

}  // namespace

Result<std::string> check_tp_faults(const TpCase& c) {
  PS_TRY(const Json json, read_json_file(c.dir / "faults.json"));
  if (!json.is(Json::Kind::kArray)) return bad_input("faults.json", "is no list");
  for (std::size_t i = 0; i < json.items.size(); ++i) {
    const Json* name = json.items[i].find("name");
    const std::string label =
        name != nullptr && name->is(Json::Kind::kString) ? name->text : std::to_string(i);
    PS_TRY_VOID(check_fault(c, json.items[i], "faults.json/" + label));
  }
  return std::to_string(json.items.size()) + " faults named and placed";
}

}  // namespace ps
