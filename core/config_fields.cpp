#include "core/config_fields.h"

#include <utility>

namespace ps {

const Json* ConfigFields::find_set(std::string_view name) const {
  const Json* json = find(name);
  return json == nullptr || json->is(Json::Kind::kNull) ? nullptr : json;
}

std::int64_t ConfigFields::count(std::string_view name, std::int64_t fallback, std::int64_t least,
                                 std::int64_t most) {
  const Json* json = find(name);
  if (json == nullptr) return fallback;
  if (!json->is(Json::Kind::kInteger)) {
    wrong_type(name, "a whole number");
    return 0;
  }
  if (json->integer < least || json->integer > most) {
    error(name, "must be between " + std::to_string(least) + " and " + std::to_string(most));
    return 0;
  }
  return json->integer;
}

std::optional<double> ConfigFields::number(std::string_view name) {
  const Json* json = find_set(name);
  if (json == nullptr) return std::nullopt;
  if (!json->is(Json::Kind::kInteger) && !json->is(Json::Kind::kNumber)) {
    wrong_type(name, "a number");
    return std::nullopt;
  }
  return json->number;
}

bool ConfigFields::flag(std::string_view name) {
  const Json* json = find_set(name);
  if (json == nullptr) return false;
  if (!json->is(Json::Kind::kBool)) wrong_type(name, "true or false");
  return json->boolean;
}

std::optional<std::string> ConfigFields::text(std::string_view name) {
  const Json* json = find_set(name);
  if (json == nullptr) return std::nullopt;
  if (!json->is(Json::Kind::kString)) {
    wrong_type(name, "a string");
    return std::nullopt;
  }
  return json->text;
}

void ConfigFields::error(std::string_view name, std::string rule, std::string_view id) {
  add(true, name, std::move(rule), id);
}

void ConfigFields::warn(std::string_view name, std::string rule, std::string_view id) {
  add(false, name, std::move(rule), id);
}

void ConfigFields::wrong_type(std::string_view name, std::string_view expected) {
  error(name,
        "must be " + std::string(expected) + ", not " + std::string(to_string(find(name)->kind)));
}

void ConfigFields::add(bool is_error, std::string_view name, std::string rule,
                       std::string_view id) {
  const Json* json = find(name);
  issues_.push_back({is_error, std::string(id), path_ + std::string(name),
                     json == nullptr ? std::string("absent") : json->brief(), std::move(rule)});
}

}  // namespace ps
