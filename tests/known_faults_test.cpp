// The table of known faults, the list of ids that it must cover, and the reference's own catalogue
// say the same. Planted and seen red: a line taken out of the table, an id changed, a replayed
// fault called lint.
#include "diff/diagnose/known_faults.h"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/engine.h"
#include "tests/support/program.h"

namespace ps {
namespace {

std::set<std::string> listed_ids() {
  std::istringstream file(get_file(fixtures_dir() / "faults" / "ids.txt"));
  std::set<std::string> out;
  for (std::string line; std::getline(file, line);) out.insert(line);
  return out;
}

TEST(KnownFaults, EveryListedIdIsThereOnce) {
  const std::set<std::string> listed = listed_ids();
  EXPECT_EQ(listed.size(), 164u);  // 133 reported, 21 operators, 9 of sparse attention, TP014
  std::set<std::string> found;
  for (const KnownFault& f : known_faults()) {
    EXPECT_TRUE(found.emplace(f.id).second) << f.id << " stands there twice";
    EXPECT_TRUE(listed.contains(std::string(f.id))) << f.id << " is in no list";
  }
  for (const std::string& id : listed) EXPECT_TRUE(found.contains(id)) << id << " is not known";
}

TEST(KnownFaults, EveryFieldIsFilled) {
  for (const KnownFault& f : known_faults()) {
    for (const std::string_view field :
         {f.first_point, f.wrong, f.shows, f.separates, f.blind, f.fix}) {
      EXPECT_FALSE(field.empty()) << f.id;
      EXPECT_FALSE(field.ends_with('.')) << f.id << ": " << field;
    }
    EXPECT_GE(f.frequency, 1) << f.id;
    EXPECT_LE(f.frequency, 5) << f.id;
    // Who is not found by replay says what finds it, or why nothing can.
    EXPECT_EQ(f.note.empty(), f.how == FaultSearch::kReplayed) << f.id;
  }
}

// A fault whose text names another one names one that exists.
TEST(KnownFaults, IdsInTextsExist) {
  std::set<std::string> families;
  for (const KnownFault& f : known_faults()) families.emplace(f.id.substr(0, f.id.find('-')));
  for (const KnownFault& f : known_faults()) {
    for (const std::string_view text : {f.wrong, f.shows, f.separates, f.fix, f.note}) {
      std::string word;
      for (const char c : std::string(text) + " ") {
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-') {
          word += c;
          continue;
        }
        const bool is_id = std::count(word.begin(), word.end(), '-') >= 2 &&
                           families.contains(word.substr(0, word.find('-')));
        if (is_id) {
          EXPECT_NE(find_known_fault(word), nullptr) << f.id << " names " << word;
        }
        word.clear();
      }
    }
  }
}

TEST(KnownFaults, ReplayedOnesAreTheReferencesCatalogue) {
  PS_NEEDS_REFERENCE();
  const Result<Model> model = open_model(bytes_model());
  ASSERT_TRUE(model.ok()) << model.error().line();
  const auto reference = open_reference(*model, {});
  ASSERT_TRUE(reference.ok()) << reference.error().line();
  std::map<std::string, FaultInfo> catalogue;
  for (const FaultInfo& f : (*reference)->faults(false)) catalogue.emplace(f.id, f);
  for (const auto& [id, info] : catalogue) {
    const KnownFault* known = find_known_fault(id);
    ASSERT_NE(known, nullptr) << id << " is replayed, and not in diff/diagnose/known";
    EXPECT_EQ(known->how, FaultSearch::kReplayed) << id;
    EXPECT_EQ(known->fault_class, info.fault_class) << id;
    EXPECT_EQ(known->frequency, info.frequency) << id;
  }
  for (const KnownFault& f : known_faults()) {
    if (f.how != FaultSearch::kReplayed) continue;
    EXPECT_TRUE(catalogue.contains(std::string(f.id))) << f.id << " is not in reference/faults";
  }
}

TEST(FaultsCommand, ListsAllAndTeachesOne) {
  const Ran all = run_parscope({"faults"});
  EXPECT_EQ(all.code, 0);
  EXPECT_EQ(all.err, "");
  for (const KnownFault& f : known_faults()) {
    EXPECT_NE(all.out.find("  " + std::string(f.id) + " "), std::string::npos) << f.id;
    const Ran one = run_parscope({"faults", std::string(f.id)});
    EXPECT_EQ(one.code, 0) << f.id;
    for (const char* lead : {"what is wrong", "how it shows", "told apart by", "fix", "found by"}) {
      EXPECT_NE(one.out.find(lead), std::string::npos) << f.id << " " << lead;
    }
  }
}

TEST(FaultsCommand, JsonHasEveryField) {
  const auto all = nlohmann::json::parse(run_parscope({"faults", "--json"}).out);
  EXPECT_EQ(all.at("faults").size(), known_faults().size());
  const auto one = nlohmann::json::parse(run_parscope({"faults", "runtime-race", "--json"}).out);
  EXPECT_EQ(one.at("class"), "runtime");
  EXPECT_EQ(one.at("frequency"), 4);
  EXPECT_EQ(one.at("how"), "run-level check");
  EXPECT_NE(one.at("note"), "");
}

TEST(FaultsCommand, OneClassAndBadWords) {
  const Ran rope = run_parscope({"faults", "--class", "rope"});
  EXPECT_NE(rope.out.find("rope-sign"), std::string::npos);
  EXPECT_EQ(rope.out.find("mask-"), std::string::npos) << rope.out;
  expect_bad_input(run_parscope({"faults", "rope-theta-defualt"}), "rope-theta-default");
  expect_bad_input(run_parscope({"faults", "--class", "ropes"}), "did you mean rope?");
  expect_bad_input(run_parscope({"faults", "a", "b"}), "more than one ID");
}

// Without LibTorch: a library that cannot be opened is not missed.
TEST(FaultsCommand, OpensNoReference) {
  EXPECT_EQ(run_parscope({"faults"}, {"PARSCOPE_REFERENCE=/nowhere.so"}).code, 0);
}

}  // namespace
}  // namespace ps
