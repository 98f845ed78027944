// golden.json: written, and read back with nothing taken on trust.
#include <cstdio>
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/json.h"
#include "diff/golden/recorded.h"

namespace ps {

namespace {

namespace fs = std::filesystem;
using Out = nlohmann::ordered_json;

constexpr std::string_view kSchema = "parscope.golden/1";

std::string hex(std::uint64_t x) {
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(x));
  return text;
}

std::uint64_t sum_of(const std::string& text) { return fnv1a(std::as_bytes(std::span(text))); }

Out json_of(const RecordedKey& key, const Digest& d) {
  Out out = {{"step", std::get<0>(key)},
             {"rank", std::get<1>(key)},
             {"point", std::get<2>(key)},
             {"dtype", torch_name(d.dtype)},
             {"shape", d.shape},
             {"hash", hex(d.hash)},
             {"nan", d.nan},
             {"inf", d.pos_inf},
             {"-inf", d.neg_inf},
             {"ignored", d.ignored},
             {"rms", d.rms},
             {"sketch", d.sketch},
             {"samples", Out::array()}};
  for (const auto& [cell, value] : d.samples) out["samples"].push_back({cell, value});
  return out;
}

Result<Digest> digest_from(const Json& entry, const std::string& where) {
  const auto broken = [&](const char* field) {
    return bad_input(where, "is no digest", field, entry.brief());
  };
  const auto integer = [&](const char* name, std::int64_t& out) {
    const Json* j = entry.find(name);
    if (j == nullptr || !j->is(Json::Kind::kInteger)) return false;
    out = j->integer;
    return true;
  };
  const auto is_number = [](const Json* j) {
    return j != nullptr && (j->is(Json::Kind::kNumber) || j->is(Json::Kind::kInteger));
  };
  Digest d;
  const Json* dtype = entry.find("dtype");
  const auto type = dtype != nullptr ? dtype_from_torch(dtype->text) : std::nullopt;
  if (!type) return broken("dtype");
  d.dtype = *type;
  const Json* shape = entry.find("shape");
  if (shape == nullptr || !shape->is(Json::Kind::kArray)) return broken("shape");
  for (const Json& n : shape->items) {
    if (!n.is(Json::Kind::kInteger) || n.integer < 0) return broken("shape");
    d.shape.push_back(n.integer);
  }
  const Json* hash = entry.find("hash");
  if (hash == nullptr || hash->text.size() != 16) return broken("hash");
  d.hash = std::strtoull(hash->text.c_str(), nullptr, 16);
  if (!integer("nan", d.nan) || !integer("inf", d.pos_inf) || !integer("-inf", d.neg_inf) ||
      !integer("ignored", d.ignored)) {
    return broken("nan, inf, -inf, ignored");
  }
  const Json* rms = entry.find("rms");
  if (!is_number(rms)) return broken("rms");
  d.rms = rms->number;
  const Json* sketch = entry.find("sketch");
  if (sketch == nullptr || sketch->items.size() != d.sketch.size()) return broken("sketch");
  for (std::size_t i = 0; i < d.sketch.size(); ++i) {
    if (!is_number(&sketch->items[i])) return broken("sketch");
    d.sketch[i] = sketch->items[i].number;
  }
  const Json* samples = entry.find("samples");
  if (samples == nullptr) return broken("samples");
  for (const Json& s : samples->items) {
    if (s.items.size() != 2 || !s.items[0].is(Json::Kind::kInteger) || !is_number(&s.items[1])) {
      return broken("samples");
    }
    d.samples.emplace_back(s.items[0].integer, s.items[1].number);
  }
  return d;
}

}  // namespace

std::string recorded_text(const RecordedGolden& g) {
  const Provenance& p = g.provenance;
  Out points = Out::array();
  for (const auto& [key, digest] : g.points) points.push_back(json_of(key, digest));
  Out out = {{"schema", kSchema},
             {"provenance",
              {{"producer", p.producer},
               {"source", p.source},
               {"conversion", p.conversion},
               {"command", p.command},
               {"commit", p.commit},
               {"date", p.date},
               {"date_from", p.date_from},
               {"recorded_by", "parscope " + p.version}}},
             {"kind", g.digests_only ? "digest" : "full"},
             {"dtype", torch_name(g.dtype)},
             {"model", g.model}};
  out["sum"] = hex(sum_of(points.dump()));
  out["points"] = std::move(points);
  return out.dump(1, ' ', false, Out::error_handler_t::replace) + "\n";
}

Result<RecordedGolden> read_recorded(const fs::path& dir) {
  const std::string where = (dir / "golden.json").string();
  PS_TRY(const std::string text, read_text(dir / "golden.json", std::int64_t{1} << 30));
  PS_TRY(const Json json, parse_json(text, where));
  const auto field = [&](const Json& from, const char* name) {
    const Json* j = from.find(name);
    return j != nullptr && j->is(Json::Kind::kString) ? j->text : std::string();
  };
  if (field(json, "schema") != kSchema) {
    return bad_input(where, "is no recorded golden", std::string(kSchema), field(json, "schema"));
  }
  RecordedGolden out;
  out.digests_only = field(json, "kind") == "digest";
  out.model = field(json, "model");
  const auto dtype = dtype_from_torch(field(json, "dtype"));
  if (!dtype) return bad_input(where + "/dtype", "is no type", "float32", field(json, "dtype"));
  out.dtype = *dtype;
  if (const Json* p = json.find("provenance"); p != nullptr) {
    out.provenance.producer = field(*p, "producer");
    out.provenance.date = field(*p, "date");
    out.provenance.commit = field(*p, "commit");
  }
  const Json* points = json.find("points");
  if (points == nullptr || !points->is(Json::Kind::kArray)) {
    return bad_input(where, "has no points");
  }
  for (const Json& entry : points->items) {
    const Json *step = entry.find("step"), *rank = entry.find("rank");
    const std::string point = field(entry, "point");
    if (step == nullptr || rank == nullptr || point.empty()) {
      return bad_input(where, "has a point without step, rank or name", "", entry.brief());
    }
    PS_TRY(out.points[(RecordedKey{step->integer, rank->integer, point})],
           digest_from(entry, where + ": " + point));
  }
  // The sum is over the text as it is written: numbers in their shortest form.
  Out again = Out::array();
  for (const auto& [key, digest] : out.points) again.push_back(json_of(key, digest));
  if (hex(sum_of(again.dump())) != field(json, "sum")) {
    return bad_input(where, "was changed by hand: its sum is another one", field(json, "sum"),
                     hex(sum_of(again.dump())));
  }
  return out;
}

}  // namespace ps
