#include "diff/report/stored_votes.h"

#include <algorithm>
#include <cmath>

namespace ps {

namespace {

double number_of(const Json& json) {
  return json.is(Json::Kind::kInteger) || json.is(Json::Kind::kNumber) ? json.number : NAN;
}
double number_of(const Json& object, std::string_view name) {
  const Json* value = object.find(name);
  return value == nullptr ? NAN : number_of(*value);
}
std::int64_t integer_of(const Json& object, std::string_view name) {
  const Json* value = object.find(name);
  return value != nullptr && value->is(Json::Kind::kInteger) ? value->integer : 0;
}
const std::vector<Json>& items_of(const Json& object, std::string_view name) {
  static const std::vector<Json> kNone;
  const Json* value = object.find(name);
  return value != nullptr && value->is(Json::Kind::kArray) ? value->items : kNone;
}
std::vector<double> numbers_of(const Json& object, std::string_view name) {
  std::vector<double> out;
  for (const Json& item : items_of(object, name)) out.push_back(number_of(item));
  return out;
}
std::vector<std::int64_t> integers_of(const Json& object, std::string_view name) {
  std::vector<std::int64_t> out;
  for (const Json& item : items_of(object, name)) out.push_back(item.integer);
  return out;
}

// Panels index all of these by replica.
bool complete(const ReplicaToken& t, std::size_t p) {
  return t.weights.size() == p && t.replica_argmax.size() == p && t.without_argmax.size() == p &&
         t.expected_weights.size() == p && t.expected_replica_argmax.size() == p &&
         std::all_of(t.top.begin(), t.top.end(), [p](const ReplicaToken::Choice& c) {
           return c.replica.size() == p && c.without.size() == p;
         });
}

}  // namespace

std::vector<std::int64_t> ReplicaToken::flips() const {
  std::vector<std::int64_t> out;
  for (std::size_t p = 0; p < without_argmax.size(); ++p) {
    if (without_argmax[p] != argmax) out.push_back(static_cast<std::int64_t>(p));
  }
  return out;
}

bool ReplicaToken::disagrees() const {
  return std::any_of(replica_argmax.begin(), replica_argmax.end(),
                     [&](std::int64_t id) { return id != replica_argmax[0]; });
}

Result<ReplicaVotes> read_votes(const Json& json, const std::string& where) {
  ReplicaVotes out;
  out.replicas = integer_of(json, "replicas");
  out.left_out = integer_of(json, "left_out");
  const std::vector<Json>& tokens = items_of(json, "tokens");
  if (out.replicas < 2)
    return bad_input(where + "/replicas", "must be a number of replicas", "2 or more");
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const Json& from = tokens[i];
    ReplicaToken t;
    t.step = integer_of(from, "step");
    t.batch = integer_of(from, "batch");
    t.token = integer_of(from, "token");
    t.input_id = integer_of(from, "input_id");
    t.argmax = integer_of(from, "argmax");
    t.js = number_of(from, "js");
    t.weights = numbers_of(from, "weights");
    t.replica_argmax = integers_of(from, "replica_argmax");
    t.without_argmax = integers_of(from, "without_argmax");
    for (const Json& choice : items_of(from, "top")) {
      t.top.push_back({integer_of(choice, "id"), number_of(choice, "logit"),
                       numbers_of(choice, "replica"), numbers_of(choice, "without")});
    }
    const Json none;
    const Json* expected = from.find("expected");
    if (expected == nullptr) expected = &none;
    t.expected_argmax = integer_of(*expected, "argmax");
    t.expected_js = number_of(*expected, "js");
    t.expected_weights = numbers_of(*expected, "weights");
    t.expected_replica_argmax = integers_of(*expected, "replica_argmax");
    if (!complete(t, static_cast<std::size_t>(out.replicas))) {
      return bad_input(where + "/tokens/" + std::to_string(i), "has not a value for every replica",
                       std::to_string(out.replicas) + " of each");
    }
    out.tokens.push_back(std::move(t));
  }
  return out;
}

}  // namespace ps
