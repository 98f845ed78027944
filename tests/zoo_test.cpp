// parscope zoo: three whole configurations, the scenarios of fixtures/zoo, and its words.
#include <filesystem>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "model/candidate.h"
#include "tests/support/fixtures.h"
#include "tests/support/paths.h"
#include "tests/support/program.h"
#include "tests/support/run.h"

namespace ps {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Json zoo(std::vector<std::string> words) {
  words.insert(words.begin(), "zoo");
  words.emplace_back("--json");
  const Ran ran = run_parscope(words);
  EXPECT_LE(ran.code, 1) << ran.err;
  EXPECT_EQ(ran.err, "");
  Json out = Json::parse(ran.out);
  EXPECT_EQ(out["passed"].get<bool>(), ran.code == 0);
  return out;
}

std::string sentence(const Json& row) { return row.dump(); }

class Zoo : public ::testing::TestWithParam<int> {};

TEST_P(Zoo, PlantedFaultsAreLocatedAndNamedAndNothingBenignIsCalledWrong) {
  PS_NEEDS_REFERENCE();
  const Json out = zoo({"--configs", "1", "--seed", "1", "--first", std::to_string(GetParam())});
  EXPECT_EQ(out["clean"], (Json{{"called_wrong", 0}, {"runs", 1}}));
  EXPECT_EQ(out["benign"]["called_wrong"], 0);
  int shown = 0;
  for (const Json& row : out["cases"]) {
    if (row["verdict"] != "shown" || row["sort"] == "benign" || row["sort"] == "clean") continue;
    ++shown;
    EXPECT_TRUE(row["located"]) << sentence(row);
    EXPECT_FALSE(row["misnamed"]) << sentence(row);
    if (row["sort"] == "invented") {
      EXPECT_EQ(row["found"], "unnamed") << sentence(row);
    } else {
      EXPECT_TRUE(row["named"].get<bool>() || row["listed"].get<bool>()) << sentence(row);
    }
  }
  EXPECT_GT(shown, 50);
}

// A prefix and replicas; a window and per-head norms in bf16; attention across replicas.
INSTANTIATE_TEST_SUITE_P(Configurations, Zoo, ::testing::Values(0, 3, 4));

TEST(ZooScenarios, EachComesOutAsItsFileSays) {
  PS_NEEDS_REFERENCE();
  int count = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(source_dir()) / "fixtures/zoo")) {
    const Json scenario = Json::parse(value_or_die(read_text(entry.path())));
    ASSERT_EQ(scenario["schema"], "parscope.fault/1") << entry.path();
    const std::string id = scenario["id"];
    const Json out = zoo({"--only", id, "--configs", "1", "--seed", scenario["seed"].dump(),
                          "--first", scenario["config"].dump()});
    ASSERT_EQ(out["cases"].size(), 2u) << id << ": this configuration cannot have it";
    const Json& row = out["cases"][1];  // behind the clean run
    EXPECT_EQ(row["id"], id);
    ++count;
    const Json& expected = scenario["expected"];
    if (expected.is_null()) {
      EXPECT_NE(row["verdict"], "silent") << id << " changed nothing";
      EXPECT_FALSE(row["detected"]) << sentence(row);
      continue;
    }
    EXPECT_EQ(row["found"], expected["finding"]) << sentence(row);
    EXPECT_EQ(row["point"],
              "step " + expected["step"].dump() + " " + expected["point"].get<std::string>());
    EXPECT_EQ(row["truth"], row["point"]) << sentence(row);
  }
  EXPECT_GE(count, 15);
}

TEST(ZooWords, ListsWhatCanBePlantedAndSaysWhatIsWrong) {
  const Ran list = run_parscope({"zoo", "--list"});
  EXPECT_EQ(list.code, 0);
  EXPECT_NE(list.out.find("rope-theta-default  rope\n"), std::string::npos);
  EXPECT_GE(plants().size(), 100u);
  const Ran unknown = run_parscope({"zoo", "--only", "rope-theta-defualt"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_NE(unknown.err.find("perhaps rope-theta-default"), std::string::npos) << unknown.err;
  EXPECT_EQ(run_parscope({"zoo", "SOME_MODEL"}).code, 2);
  EXPECT_EQ(run_parscope({"zoo", "--skip", "3/3"}).code, 2);
  EXPECT_EQ(run_parscope({"zoo", "--dtype", "f64"}).code, 2);
}

TEST(ZooWords, PlantsAreForTheHostAndForModelsThatCanHaveThem) {
  const Model model = value_or_die(open_model(bytes_model()));
  CandidateOptions options;
  options.dtype = DType::kF32;
  options.plant = PlantChoice{"mask-window-missing", 0};
  EXPECT_FALSE(open_candidate(model, options).ok());  // it has no window
  options.plant = PlantChoice{"no-such-plant", 0};
  EXPECT_FALSE(open_candidate(model, options).ok());
  options.plant = PlantChoice{"rope-theta-default", 0};
  EXPECT_TRUE(open_candidate(model, options).ok());
  options.device = Device::kCuda;
  EXPECT_FALSE(open_candidate(model, options).ok());
}

}  // namespace
}  // namespace ps
