// `golden verify` of sparse cases: the stored ones pass, and no stored number can change unseen.
#include <cstring>

#include <gtest/gtest.h>

#include "core/json.h"
#include "core/safetensors.h"
#include "diff/golden/sparse_case.h"
#include "tests/support/program.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> kCases = {
    "gate_threshold_rows_lost", "walk_basic_grad",    "walk_decode",
    "walk_left_padding_3d",     "walk_noncausal",     "walk_partial_block_gqa",
    "walk_per_head_4d_mask",    "walk_tau_covers_all"};

fs::path golden_dir(const std::string& name) { return fixtures_dir() / "golden" / "sparse" / name; }

class Stored : public testing::TestWithParam<std::string> {};

TEST_P(Stored, Passes) {
  PS_NEEDS_REFERENCE();
  const auto checked = verify_sparse_case(golden_dir(GetParam()));
  EXPECT_TRUE(checked.ok()) << checked.error().line();
}

// Without inputs.json, so that what is computed has to tell.
TEST_P(Stored, FailsWhereATensorHasOneOtherNumber) {
  PS_NEEDS_REFERENCE();
  const fs::path from = golden_dir(GetParam());
  const auto file = SafetensorsFile::open(from / "data.safetensors");
  ASSERT_TRUE(file.ok());
  const TempDir dir;
  fs::copy_file(from / "case.json", dir / "case.json");
  const std::string bytes = get_file(from / "data.safetensors");
  for (const auto& entry : file->entries()) {
    std::string changed = bytes;
    // Where the tensor lies: the last bytes of the file are the data, in order.
    const auto& first = file->entries().front().view;
    const auto& last = file->entries().back().view;
    const auto data =
        static_cast<std::size_t>(last.bytes.data() + last.bytes.size() - first.bytes.data());
    const std::size_t at = bytes.size() - data +
                           static_cast<std::size_t>(entry.view.bytes.data() - first.bytes.data());
    // No cell of padding, nor of a first token, which no output follows.
    const auto cell = static_cast<std::size_t>(entry.view.count() * 5 / 8) *
                      static_cast<std::size_t>(size_of(entry.view.dtype));
    char* place = changed.data() + at + cell;
    if (entry.view.dtype == DType::kF64) {
      double x;
      std::memcpy(&x, place, sizeof x);
      x = x * 1.01 + (x == 0 ? 1e-3 : 0);
      std::memcpy(place, &x, sizeof x);
    } else if (entry.view.dtype == DType::kF32) {
      float x;
      std::memcpy(&x, place, sizeof x);
      x = x * 1.01f + (x == 0 ? 1e-3f : 0);
      std::memcpy(place, &x, sizeof x);
    } else {
      *place = static_cast<char>(*place ^ 1);
    }
    put_file(dir / "data.safetensors", changed);
    EXPECT_FALSE(verify_sparse_case(dir.path()).ok()) << entry.name;
  }
}

void numbers_of(Json& json, std::vector<Json*>& out) {
  if (json.is(Json::Kind::kInteger) || json.is(Json::Kind::kNumber)) out.push_back(&json);
  for (Json& item : json.items) numbers_of(item, out);
}

TEST_P(Stored, FailsWhereItsHeaderHasOneOtherNumber) {
  PS_NEEDS_REFERENCE();
  const fs::path from = golden_dir(GetParam());
  const TempDir dir;
  fs::copy_file(from / "data.safetensors", dir / "data.safetensors");
  fs::copy_file(from / "inputs.json", dir / "inputs.json");
  auto json = parse_json(get_file(from / "case.json"), "case.json");
  ASSERT_TRUE(json.ok());
  std::vector<Json*> numbers;
  numbers_of(*json, numbers);
  for (std::size_t i = 0; i < numbers.size(); i += i < 24 ? 1 : 7) {
    Json& number = *numbers[i];
    const Json before = number;
    if (number.is(Json::Kind::kInteger)) {
      number.integer += 1;
    } else {
      number.number = number.number * 1.001 + 1e-9;
      number.text = std::to_string(number.number);
    }
    put_file(dir / "case.json", json->dump());
    EXPECT_FALSE(verify_sparse_case(dir.path()).ok())
        << i << ": " << before.dump() << " to " << number.dump();
    number = before;
  }
}

INSTANTIATE_TEST_SUITE_P(Sparse, Stored, testing::ValuesIn(kCases),
                         [](const auto& p) { return p.param; });

TEST(SparseCommand, BadInputIsOneLine) {
  PS_NEEDS_REFERENCE();
  const std::string good = golden_dir("walk_basic_grad").string();
  const TempDir dir;
  expect_bad_input(run_parscope({"sparse"}), "no 'check CASE_DIR'");
  expect_bad_input(run_parscope({"sparse", "check"}), "no CASE_DIR");
  expect_bad_input(run_parscope({"sparse", "look", good}), "only check and show");
  expect_bad_input(run_parscope({"sparse", "check", dir / "none"}), "no such file");
  expect_bad_input(run_parscope({"sparse", "check", good, "--candidate", "x"}),
                   "no such candidate");
  expect_bad_input(run_parscope({"sparse", "check", good, "--min-recall", "2"}), "from 0 to 1");
  const std::pair<const char*, const char*> texts[] = {
      {"[]", "not a case"},
      {"{\"config\": 3}", "has no config"},
      {"{\"config\": {\"B\": 1}}", "/config/H"},
      {"{\"config\": {\"B\": 1, \"H\": 2, \"Hk\": 2, \"N\": 63, \"D\": 16, \"bs\": 8, \"layers\": "
       "3}}",
       "is not what the config says"},
      {"{\"config\": {\"B\": 1, \"H\": 3, \"Hk\": 2, \"N\": 64, \"D\": 16, \"bs\": 8, \"layers\": "
       "3}}",
       "no multiple of Hk"},
      {"{\"config\": {\"B\": 1, \"H\": 2, \"Hk\": 2, \"N\": 64, \"D\": 16, \"bs\": 0, \"layers\": "
       "3}}",
       "wrong number"},
      {"{\"selected\": [[[[0.5]]]]}", "wrong length"},
      {"{\"selected\": [[[[[0.5]]]], [], []]}", "not lists of block indices"},
      {"{\"decode\": [{\"position\": 3, \"block\": 0}]}", "wrong position"}};
  for (const auto& [text, message] : texts) {
    put_file(dir / "bad.json", text);
    expect_bad_input(run_parscope({"sparse", "check", good, dir / "bad.json"}), message, text);
  }
}

TEST(SparseCommand, FilesReplaceWhatACaseHolds) {
  PS_NEEDS_REFERENCE();
  const std::string good = golden_dir("walk_basic_grad").string();
  const TempDir dir;
  // One head sees the whole lists, and the other lacks the diagonal of row 5.
  auto json = parse_json(get_file(fs::path(good) / "case.json"), "case.json");
  ASSERT_TRUE(json.ok());
  Json mine;
  mine.kind = Json::Kind::kObject;
  mine.names = {"selected"};
  mine.items = {*json->find("selected")};
  Json& row = mine.items[0].items[1].items[0].items[1].items[5];
  row.items.back() = row.items[1];
  row.items.back().integer = 4;
  put_file(dir / "mine.json", mine.dump());
  const Ran ran = run_parscope({"sparse", "check", good, dir / "mine.json", "--json"});
  EXPECT_EQ(ran.code, 1) << ran.err;
  EXPECT_NE(ran.out.find("\"SP003\""), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("batch=0 head=1 row=5 block=5"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("\"SP011\""), std::string::npos) << ran.out;  // out is that of other lists
  EXPECT_EQ(run_parscope({"sparse", "check", good, "--json"}).code, 0);
}

}  // namespace
}  // namespace ps
