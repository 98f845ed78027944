#include "diff/diagnose/explain.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>
#include <vector>

#include "core/json.h"
#include "diff/diagnose/known_faults.h"
#include "diff/report/strip.h"
#include "diff/report/words.h"

namespace ps {

namespace {

constexpr std::size_t kWidth = 100;
constexpr std::size_t kLead = 16;

class Explanation {
 public:
  Explanation(const Finding& finding, std::size_t number, std::size_t all)
      : f_(finding), known_(find_known_fault(finding.id)) {
    out_ = "finding " + std::to_string(number) + " of " + std::to_string(all) + ": " +
           plain(f_.id) + "  [" + plain(f_.fault_class) + ", " +
           std::string(to_string(f_.severity)) + "]\n";
  }

  std::string all() {
    say("where", place_text(f_));
    say("what", f_.message);
    compared();
    replayed();
    unnamed();
    others();
    say("also at", list("also_at"));
    rest();
    if (known_ != nullptr) {
      say("how it shows", known_->shows);
      say("told apart by", known_->separates);
    }
    say("fix", f_.fix);
    if (known_ != nullptr) say("more", "parscope faults " + f_.id);
    return std::move(out_);
  }

 private:
  void say(std::string_view lead, std::string_view words) {
    if (words.empty()) return;
    std::string left(lead);
    left.resize(kLead, ' ');
    for (const std::string& line : wrapped(plain(words), kWidth - kLead)) {
      out_ += left + line + "\n";
      left.assign(kLead, ' ');
    }
  }

  const std::string* evidence(const std::string& name) {
    used_.insert(name);
    const auto it = std::find_if(f_.evidence.begin(), f_.evidence.end(),
                                 [&](const auto& e) { return e.first == name; });
    return it == f_.evidence.end() ? nullptr : &it->second;
  }
  std::optional<double> number(const std::string& name) {
    const std::string* text = evidence(name);
    if (text == nullptr) return std::nullopt;
    const Result<Json> json = parse_json(*text, name);
    const bool ok = json.ok() && (json->is(Json::Kind::kNumber) || json->is(Json::Kind::kInteger));
    return ok ? std::optional(json->number) : std::nullopt;
  }
  std::vector<std::string> strings(const std::string& name) {
    std::vector<std::string> out;
    const std::string* text = evidence(name);
    if (text == nullptr) return out;
    const Result<Json> json = parse_json(*text, name);
    if (!json.ok()) return out;
    for (const Json& item : json->items) {
      if (item.is(Json::Kind::kString)) out.push_back(item.text);
    }
    return out;
  }
  std::string list(const std::string& name) {
    std::string out;
    for (const std::string& s : strings(name)) out += (out.empty() ? "" : ", ") + s;
    return out;
  }

  void compared() {
    if (evidence("replayed_from") != nullptr) {
      const std::string basis = list("replayed_from");
      say("compared with",
          "what the reference computes in float64 for " + f_.point + " from " +
              (basis.empty() ? "the config and the inputs alone"
                             : "the candidate's own " + basis +
                                   ": whatever went wrong before these does not count here"));
    }
    const std::optional<double> error = number("error_before"), ratio = number("ratio");
    if (!error && !ratio) return;
    std::string words;
    if (error) words = "rel L2 " + number_text(*error);
    if (ratio) {
      words += (error ? ", " : "") + number_text(*ratio) + " times what rounding explains";
    }
    say("its error", words);
  }

  void replayed() {
    const std::optional<double> error = number("error_of_replay"),
                                ratio = number("ratio_of_replay");
    const std::string* variant = evidence("variant");
    if (!error) return;
    std::string words = "the same op done wrong in this way, from the same values";
    if (variant != nullptr) words += " (" + variant->substr(1, variant->size() - 2) + ")";
    words += ", leaves rel L2 " + number_text(*error);
    if (ratio) words += ", " + number_text(*ratio) + " of what rounding explains";
    words += f_.confidence == Confidence::kExact
                 ? ": nothing but rounding is left, so this is what was done"
                 : ": the pattern fits, but the values themselves cannot be replayed";
    say("fault replayed", words);
  }

  // The hypotheses that came nearest, where none explains the point.
  void unnamed() {
    if (f_.confidence != Confidence::kUnnamed) return;
    say("cause",
        "no known fault explains it down to rounding, and a wrong name is worse than none");
    const std::string* text = evidence("nearest");
    if (text == nullptr) return;
    const Result<Json> near = parse_json(*text, "nearest");
    if (!near.ok()) return;
    std::string_view lead = "nearest";
    for (const Json& item : near->items) {
      const Json* id = item.find("id");
      const Json* how = item.find("how");
      const Json* left = item.find("error_of_replay");
      if (id == nullptr || !id->is(Json::Kind::kString)) continue;
      std::string words = id->text;
      if (how != nullptr && !how->text.empty()) words += " (" + how->text + ")";
      if (left != nullptr && !left->is(Json::Kind::kNull)) {
        words += " would leave rel L2 " + number_text(left->number);
      }
      say(lead, words);
      lead = "";
    }
  }

  void others() {
    std::string_view lead = "or else";
    for (const std::string& id : strings("confusable")) {
      const KnownFault* other = find_known_fault(id);
      std::string words = id + " explains this run just as well";
      if (other != nullptr) {
        words +=
            ": " + std::string(other->wrong) + ". Told apart by: " + std::string(other->separates);
      }
      say(lead, words);
      lead = "";
    }
  }

  // What no sentence above has used.
  void rest() {
    std::string words;
    for (const auto& [name, value] : f_.evidence) {
      if (used_.contains(name) || name == "points") continue;
      words += (words.empty() ? "" : ", ") + name + " = " + value;
    }
    say("evidence", words);
  }

  const Finding& f_;
  const KnownFault* known_;
  std::set<std::string> used_;
  std::string out_;
};

}  // namespace

Result<std::string> explain_finding(const Report& report, const std::string& which) {
  const std::vector<Finding>& all = report.findings;
  if (all.empty()) return std::string("no findings, so there is nothing to explain\n");
  std::size_t at = all.size();
  const bool digits = !which.empty() && std::all_of(which.begin(), which.end(), [](char c) {
    return std::isdigit(static_cast<unsigned char>(c)) != 0;
  });
  if (digits && which.size() < 9) at = std::stoul(which) - 1;  // 0 wraps: none
  if (!digits) {
    at = static_cast<std::size_t>(
        std::find_if(all.begin(), all.end(), [&](auto& f) { return f.id == which; }) - all.begin());
  }
  if (at < all.size()) return Explanation(all[at], at + 1, all.size()).all();
  std::string ids;
  std::set<std::string> seen;
  for (const Finding& f : all) {
    if (seen.insert(f.id).second && seen.size() <= 8) ids += ", " + plain(f.id);
  }
  return bad_input("--explain", "this report has no such finding",
                   "a number from 1 to " + std::to_string(all.size()) + ids, "'" + which + "'");
}

}  // namespace ps
