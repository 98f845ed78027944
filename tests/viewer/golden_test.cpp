// Pictures of every panel, byte for byte. PARSCOPE_UPDATE_PICTURES=1 records them anew; then look
// at them before they are committed. Letters are the font's: fixtures/viewer/fonts.txt says which
// ones the pictures were drawn with, and a build with others does not compare them.
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "core/file.h"
#include "diff/picture/png.h"
#include "tests/support/paths.h"
#include "tests/viewer/stage_fixture.h"
#include "viewer/app/commands.h"

namespace ps::viewer {
namespace {

struct Golden {
  const char* name;
  std::vector<std::string> lines;
  int width = 760, height = 460;
};

const std::vector<Golden>& golden_pictures() {
  static const std::vector<Golden> all = {
      {"empty", {}, 640, 360},
      {"triage", {"open CANDIDATE", "reference REFERENCE", "first"}, 1280, 800},
      {"tensor-diff",
       {"open CANDIDATE", "reference REFERENCE", "first", "layout solo", "panel tensor"}},
      {"tensor-actual-scaled",
       {"open CANDIDATE", "reference REFERENCE", "go model.layers.2.mlp:act", "mode actual",
        "scale 1.5", "layout solo", "panel tensor"}},
      {"divergence", {"open REPORT", "layout solo", "panel divergence"}, 620, 680},
      {"findings", {"open REPORT", "finding 0", "layout solo", "panel findings"}, 640, 520},
      {"runs",
       {"open CANDIDATE", "open SECOND", "reference REFERENCE", "layout solo", "panel runs"}},
      {"history",
       {"open CANDIDATE", "reference REFERENCE", "go model.layers.1.self_attn:probs",
        "cell replica 1", "cell query 1", "cell key 3", "layout solo", "panel history"}},
      {"attention",
       {"open CANDIDATE", "reference REFERENCE", "first", "layout solo", "panel attention"}},
      {"replicas", {"open REPORT", "mode actual", "layout solo", "panel replicas", "at token=5"}},
      {"cache",
       {"open CANDIDATE", "reference REFERENCE", "step 2", "mode actual", "layout solo", "panel kv",
        "at slot=11"}},
      {"tokens", {"open CANDIDATE", "reference REFERENCE", "layout solo", "panel tokens"}},
      {"steps",
       {"open CANDIDATE", "reference REFERENCE", "step 1", "layout solo", "panel steps"},
       640,
       340},
      {"mask", {"open EXPECTED_MASK", "open ACTUAL_MASK", "layout solo", "panel mask"}},
      {"mask-65536",
       {"open \"B=1 H=1 Q=65536 KV=65536; causal & segments(0-20000,20000-65536)\"",
        "open \"B=1 H=1 Q=65536 KV=65536; (causal | q_range(30000,30001) & "
        "kv_range(50001,50002)) & segments(0-20000,20000-65536)\"",
        "set mask.blocks 4096", "layout solo", "panel mask"}},
      {"help", {"open CANDIDATE", "help"}, 900, 640},
      {"palette", {"open CANDIDATE", "palette go"}, 760, 520},
  };
  return all;
}

std::filesystem::path pictures_dir() {
  return std::filesystem::path(source_dir()) / "fixtures/viewer";
}

// Empty: this build has the fonts of the pictures.
std::string other_fonts() {
  const Result<std::string> pinned = read_text(pictures_dir() / "fonts.txt");
  if (!pinned.ok()) return pinned.error().line();
  std::string out;
  for (const std::string font : {PS_FONT_TEXT, PS_FONT_MONO}) {
    if (pinned->find(font.substr(0, font.find(' '))) == std::string::npos) out += "\n  " + font;
  }
  if (out.empty()) return "";
  return "the pictures were drawn with other fonts than this build has:" + out +
         "\nfixtures/viewer/fonts.txt says with which, and where they are from";
}

TEST(GoldenPictures, OfOtherFontsAreNotCompared) {
  const Result<std::string> pinned = read_text(pictures_dir() / "fonts.txt");
  ASSERT_TRUE(pinned.ok()) << pinned.error().line();
  EXPECT_NE(pinned->find("fonts-inter"), std::string::npos);
  if (const std::string problem = other_fonts(); !problem.empty()) GTEST_SKIP() << problem;
}

class GoldenPicture : public StageTest, public ::testing::WithParamInterface<Golden> {};

TEST_P(GoldenPicture, IsByteForByteTheOneInFixtures) {
  if (const std::string problem = other_fonts(); !problem.empty()) GTEST_SKIP() << problem;
  const Golden& golden = GetParam();
  const Scene& scene = shared_scene();
  const std::vector<std::pair<std::string, std::filesystem::path>> names = {
      {"CANDIDATE", scene.candidate},         {"SECOND", scene.second},
      {"REFERENCE", scene.reference},         {"REPORT", scene.report},
      {"EXPECTED_MASK", scene.expected_mask}, {"ACTUAL_MASK", scene.actual_mask}};
  for (std::string line : golden.lines) {
    for (const auto& [name, path] : names) {
      if (line.ends_with(" " + name))
        line.replace(line.size() - name.size(), name.size(), as_word(path.string()));
    }
    must(line);
    app.jobs.wait_all();
  }
  app.clear_log();
  stage->settle(golden.width, golden.height);
  const std::string bytes = png_bytes(drawn(golden.width, golden.height).image());
  const std::filesystem::path path = pictures_dir() / (std::string(golden.name) + ".png");
  if (std::getenv("PARSCOPE_UPDATE_PICTURES") != nullptr) {
    std::filesystem::create_directories(path.parent_path());
    ASSERT_TRUE(write_text(path, bytes).ok());
  }
  const Result<std::string> expected = read_text(path);
  ASSERT_TRUE(expected.ok()) << expected.error().line();
  if (*expected == bytes) return;
  const std::filesystem::path actual =
      std::filesystem::path(binary_dir()) / ("viewer-" + std::string(golden.name) + ".png");
  (void)write_text(actual, bytes);
  FAIL() << path << " differs from what is drawn now: " << actual
         << " (PARSCOPE_UPDATE_PICTURES=1 replaces it)";
}

std::string golden_name(const ::testing::TestParamInfo<Golden>& golden) {
  std::string name = golden.param.name;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

INSTANTIATE_TEST_SUITE_P(Viewer, GoldenPicture, ::testing::ValuesIn(golden_pictures()),
                         golden_name);

// Every file in the folder is one of the pictures.
TEST(GoldenPictures, NoneIsLeftOver) {
  for (const auto& entry : std::filesystem::directory_iterator(pictures_dir())) {
    if (entry.path().extension() != ".png") continue;
    bool known = false;
    for (const Golden& golden : golden_pictures())
      known = known || golden.name == entry.path().stem();
    EXPECT_TRUE(known) << entry.path();
  }
}

}  // namespace
}  // namespace ps::viewer
