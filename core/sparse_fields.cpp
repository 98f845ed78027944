#include "core/sparse_fields.h"

#include <array>
#include <cmath>
#include <sstream>
#include <vector>

namespace ps {

namespace {

struct WholeNumber {
  const char* name;
  std::int64_t SparseConfig::* field;
  std::int64_t low, high;
  bool required;
};
constexpr std::int64_t kMany = std::int64_t{1} << 24;
constexpr std::array<WholeNumber, 15> kWholeNumbers = {{
    {"B", &SparseConfig::batch, 1, 1 << 16, true},
    {"H", &SparseConfig::heads, 1, 1 << 16, true},
    {"Hk", &SparseConfig::kv_heads, 1, 1 << 16, true},
    {"N", &SparseConfig::length, 1, kMany, true},
    {"D", &SparseConfig::head_dim, 1, 1 << 16, true},
    {"bs", &SparseConfig::block, 1, 1 << 16, true},
    {"r", &SparseConfig::sketch, 1, 1 << 16, false},
    {"tau", &SparseConfig::tau, 1, kMany, false},
    {"layers", &SparseConfig::layers, 1, 1 << 12, true},
    {"skip", &SparseConfig::skip, 0, 1 << 12, false},
    {"n_sink", &SparseConfig::sinks, 0, kMany, false},
    {"n_local", &SparseConfig::locals, 0, kMany, false},
    {"depth", &SparseConfig::depth, 0, 1 << 12, false},
    {"decode_window", &SparseConfig::decode_window, 1, kMany, false},
    {"token_budget", &SparseConfig::token_budget, 1, kMany, false},
}};

struct Fraction {
  const char* name;
  double SparseConfig::* field;
  double low, high;
};
constexpr std::array<Fraction, 4> kFractions = {{
    {"s", &SparseConfig::exponent, 1, 64},
    {"thr", &SparseConfig::threshold, 0, 1},
    {"nz_ratio", &SparseConfig::nz_ratio, 0, 1},
    {"damping", &SparseConfig::damping, 0, 1},
}};

struct Flag {
  const char* name;
  bool SparseConfig::* field;
};
constexpr std::array<Flag, 2> kFlags = {
    {{"causal", &SparseConfig::causal}, {"last_block_dense", &SparseConfig::last_block_dense}}};

std::string number_text(double x) {
  std::ostringstream text;
  text << x;
  return text.str();
}

// Which of `words` a field says; the first where it is not there.
Result<std::int64_t> one_of(const Json& config, const char* name, const std::string& where,
                            const std::vector<std::string>& words) {
  const Json* value = config.find(name);
  if (value == nullptr) return std::int64_t{0};
  std::string known;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (value->is(Json::Kind::kString) && value->text == words[i]) {
      return static_cast<std::int64_t>(i);
    }
    known += (i == 0 ? "" : ", ") + words[i];
  }
  return bad_input(where + "/" + name, "unknown", "one of " + known, value->brief());
}

Result<void> read_words(const Json& config, const std::string& where, SparseConfig& out) {
  PS_TRY(const std::int64_t selector, one_of(config, "selector", where, {"walk", "gate"}));
  out.selector = selector == 0 ? SparseSelector::kWalk : SparseSelector::kGate;
  PS_TRY(const std::int64_t gate,
         one_of(config, "gate", where, {"threshold", "nz_ratio", "token_budget"}));
  out.gate = static_cast<GateRule>(gate);
  const Json* pool = config.find("pool");
  if (pool == nullptr) return {};
  out.pool = pool->text;
  std::istringstream pools(pool->text + "+");
  for (std::string kind; std::getline(pools, kind, '+');) {
    if (kind != "avg" && kind != "max" && kind != "min") {
      return bad_input(where + "/pool", "unknown", "avg, max, min, joined by '+'", pool->brief());
    }
  }
  return {};
}

}  // namespace

Result<void> read_sparse_fields(const Json& object, const std::string& here, SparseFieldsUse use,
                                SparseConfig& out) {
  const bool whole = use == SparseFieldsUse::kCase;
  for (const WholeNumber& n : kWholeNumbers) {
    const Json* value = object.find(n.name);
    if (value == nullptr && !(n.required && whole)) continue;
    if (value == nullptr || !value->is(Json::Kind::kInteger) || value->integer < n.low ||
        value->integer > n.high) {
      return bad_input(
          here + "/" + n.name, "wrong number",
          "a whole number from " + std::to_string(n.low) + " to " + std::to_string(n.high),
          value == nullptr ? "nothing" : value->brief());
    }
    out.*n.field = value->integer;
  }
  for (const Fraction& f : kFractions) {
    const Json* value = object.find(f.name);
    if (value == nullptr) continue;
    const bool number = value->is(Json::Kind::kInteger) || value->is(Json::Kind::kNumber);
    if (!number || value->number < f.low || value->number > f.high) {
      return bad_input(here + "/" + f.name, "wrong number",
                       "from " + number_text(f.low) + " to " + number_text(f.high), value->brief());
    }
    out.*f.field = value->number;
  }
  for (const Flag& f : kFlags) {
    const Json* value = object.find(f.name);
    if (value == nullptr) continue;
    if (!value->is(Json::Kind::kBool)) {
      return bad_input(here + "/" + f.name, "wrong value", "true or false", value->brief());
    }
    out.*f.field = value->boolean;
  }
  return read_words(object, here, out);
}

std::vector<std::string> sparse_option_names() {
  std::vector<std::string> out = {"selector", "gate", "pool"};
  for (const WholeNumber& n : kWholeNumbers) {
    if (!n.required || std::string_view(n.name) == "bs") out.emplace_back(n.name);
  }
  for (const Fraction& f : kFractions) out.emplace_back(f.name);
  for (const Flag& f : kFlags) {
    if (std::string_view(f.name) != "causal") out.emplace_back(f.name);
  }
  return out;
}

}  // namespace ps
