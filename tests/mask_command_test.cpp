// parscope mask as a user meets it: sources, reports, pictures, exit codes.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/safetensors.h"
#include "diff/mask/forms.h"
#include "diff/mask/picture.h"
#include "diff/mask/text.h"
#include "tests/support/program.h"
#include "tests/support/run.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

using nlohmann::json;

std::string golden(const std::string& name) {
  return (fixtures_dir() / "golden" / "masks" / name).string();
}

std::vector<std::string> ids(const json& report) {
  std::vector<std::string> out;
  for (const json& f : report["findings"]) out.push_back(f["id"]);
  return out;
}

TEST(MaskCommand, CheckFindsInATensorWhatTheGoldenCaseSays) {
  for (const char* name :
       {"causal", "left_padding_causal", "seed_segments_contiguous", "decode_chunk_offsets"}) {
    const json stored = json::parse(value_or_die(read_text(golden(name) + "/case.json")));
    for (std::size_t n = 0; n < stored["variants"].size(); ++n) {
      const json& expect = stored["variants"][n]["expect"];
      const std::string variant = std::to_string(n);
      for (const std::string& candidate :
           {golden(name) + "/data.safetensors:variant/" + variant + "/bits",
            golden(name) + "#/variants/" + variant}) {
        const Ran ran = run_parscope({"mask", "check", candidate, golden(name), "--json"});
        EXPECT_EQ(ran.code, 1) << ran.err;
        EXPECT_EQ(ran.err, "");
        const json report = json::parse(ran.out);
        EXPECT_EQ(report["verdict"], "diverged");
        const json& inputs = report["inputs"];
        EXPECT_EQ(inputs["leak"]["count"], expect["leak"]) << candidate;
        EXPECT_EQ(inputs["leak"]["first"], expect["first_leak"]);
        EXPECT_EQ(inputs["hidden"]["count"], expect["hidden"]);
        EXPECT_EQ(inputs["leak_by_tag"], expect["leak_by_tag"]);
        EXPECT_EQ(inputs["hypotheses"], expect["hypotheses"]);
        EXPECT_EQ(inputs["candidate"]["fully_masked_rows"], expect["fully_masked_rows"]);
      }
    }
  }
}

TEST(MaskCommand, EqualMasksOfAnyFormEndWithZero) {
  const std::string name = golden("sliding_window_hf5");
  TempDir dir;
  const mask::Mask m = value_or_die(
      mask::evaluate(value_or_die(mask::parse_text("Q=45 KV=45\ncausal & window(4)", "t"))));
  SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(dir / "m.safetensors"));
  ok_or_die(writer.add("attend", mask::to_bool(m, false).view()));
  ok_or_die(writer.add("masked", mask::to_bool(m, true).view()));
  ok_or_die(writer.add("bias", mask::to_additive(m, DType::kBF16, false).view()));
  ok_or_die(writer.close());
  const std::string file = dir / "m.safetensors";
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {file + ":attend", name},
           {file + ":masked", name, "--form", "masked"},
           {file + ":bias", name, "--form", "additive"},
           {name + "/data.safetensors:mask/bits", name},
           {name + "/data.safetensors:bm/", name, "--block", "16,16"},
           {"causal & window(4)", name},
           {file + ":attend", "causal & window(4)"},
           {name, file + ":attend"}}) {
    for (const char* verb : {"check", "diff"}) {
      std::vector<std::string> all = {"mask", verb};
      all.insert(all.end(), words.begin(), words.end());
      const Ran ran = run_parscope(all);
      EXPECT_EQ(ran.code, 0) << words[0] << "\n" << ran.out << ran.err;
    }
  }
  EXPECT_EQ(run_parscope({"mask", "diff", file + ":masked", name}).code, 1);
  const Ran wrong_tile =
      run_parscope({"mask", "check", name + "/data.safetensors:bm/", name, "--block", "8,8"});
  expect_bad_input(wrong_tile, "not the block list of this mask");
}

TEST(MaskCommand, AWrongBlockListIsFound) {
  TempDir dir;
  const std::string name = golden("block_sparse_per_head");
  edit_tensors(name + "/data.safetensors", dir / "x.safetensors",
               [](const std::string& tensor, Tensor& t) {
                 if (tensor == "bm/kv_num_blocks") t.as<std::int32_t>()[5] = 0;
                 return tensor.starts_with("bm/");
               });
  const Ran ran = run_parscope(
      {"mask", "check", (dir / "x.safetensors").string() + ":bm/", name, "--block", "8", "--json"});
  EXPECT_EQ(ran.code, 1);
  const auto found = ids(json::parse(ran.out));
  EXPECT_EQ(found[0], "MK031");
  EXPECT_NE(std::find(found.begin(), found.end(), "MK006"), found.end());
}

// R5, R7 and R8 of masks.md 4, as words and as tensors.
TEST(MaskCommand, LengthsRunsAndFlagsAreMasks) {
  TempDir dir;
  const mask::Mask m = value_or_die(mask::evaluate(value_or_die(
      mask::parse_text("B=2 H=3 Q=4 KV=6 q_offset=2\ncausal & (heads(1) | window(2))", "t"))));
  const mask::RowRuns rows = mask::to_row_runs(m);
  Tensor begin(DType::kI64, {static_cast<std::int64_t>(rows.begin.size())});
  std::copy(rows.begin.begin(), rows.begin.end(), begin.as<std::int64_t>().begin());
  Tensor runs(DType::kI32, {static_cast<std::int64_t>(rows.runs.size()), 2});
  for (std::size_t i = 0; i < rows.runs.size(); ++i) {
    runs.as<std::int32_t>()[2 * i] = static_cast<std::int32_t>(rows.runs[i].first);
    runs.as<std::int32_t>()[2 * i + 1] = static_cast<std::int32_t>(rows.runs[i].second);
  }
  Tensor lengths(DType::kI32, {2}), starts(DType::kI32, {2}), cu(DType::kI32, {4});
  lengths.as<std::int32_t>()[0] = 6;
  lengths.as<std::int32_t>()[1] = 3;
  starts.as<std::int32_t>()[1] = 3;
  for (std::size_t i = 0; i < 4; ++i) cu.as<std::int32_t>()[i] = static_cast<std::int32_t>(i * i);
  SafetensorsWriter writer = value_or_die(SafetensorsWriter::create(dir / "m.safetensors"));
  ok_or_die(writer.add("r7/row_begin", begin.view()));
  ok_or_die(writer.add("r7/row_runs", runs.view()));
  ok_or_die(writer.add("r5/lengths", lengths.view()));
  ok_or_die(writer.add("r5/starts", starts.view()));
  ok_or_die(writer.add("varlen/cu_seqlens", cu.view()));
  ok_or_die(writer.add("bool", mask::to_bool(m, false).view()));
  ok_or_die(writer.close());
  const std::string file = dir / "m.safetensors";
  const std::string heads = "B=2 H=3 Q=4 KV=6 q_offset=2\ncausal & (heads(1) | window(2))";
  struct Pair {
    std::string a, b;
    int code;
  };
  const std::vector<Pair> pairs = {
      {file + ":r7/", heads, 0},
      {heads, file + ":bool", 0},
      {file + ":r7/", file + ":bool", 0},
      {file + ":r7/", "B=2 H=3 Q=4 KV=6 q_offset=2\ncausal & window(2)", 1},
      {"lengths=6,3 starts=0,3", "B=2 H=1 Q=6 KV=6\nkv_range(lo=[0,3], hi=[6,6])", 0},
      {file + ":r5/", "B=2 H=1 Q=6 KV=6\nkv_range(lo=[0,3], hi=[6,6])", 0},
      {file + ":r5/+causal", "lengths=6,3 starts=0,3 causal", 0},
      {file + ":r5/", "lengths=6,3", 1},
      {"lengths=6,3", "B=2 H=4 Q=3 KV=9\nkv_range(lo=0, hi=[6,3])", 0},
      {"cu_seqlens=0,1,4,9 causal", file + ":varlen/+causal", 0},
      {"cu_seqlens=0,1,4,9", "Q=9 KV=9\nsegments(0-1,1-4,4-9)", 0},
      {"cu_seqlens=0,1,4,9", "Q=9 KV=9\nsegments(0-1,1-3,3-9)", 1},
      {"is_causal=top-left", "Q=3 KV=5\ncausal", 0},
      {"is_causal=bottom-right", "Q=3 KV=5 q_offset=2\ncausal", 0},
      {"is_causal=top-left", "Q=3 KV=5 q_offset=2\ncausal", 1}};
  for (const Pair& p : pairs) {
    for (const char* verb : {"diff", "check"}) {
      if (p.code == 0 && verb == std::string("check") && p.a.find("causal") != std::string::npos)
        continue;
      const Ran ran = run_parscope({"mask", verb, p.a, p.b, "--quiet"});
      EXPECT_EQ(ran.code, p.code) << verb << " " << p.a << " | " << p.b << "\n"
                                  << ran.out << ran.err;
    }
  }
  EXPECT_EQ(run_parscope({"mask", "show", "lengths=6,3"}).code, 0);
  EXPECT_EQ(run_parscope({"mask", "show", file + ":r7/", "--size", "2,3,4,6"}).code, 0);
  expect_bad_input(run_parscope({"mask", "show", file + ":r7/"}), "runs alone give no size");
  expect_bad_input(run_parscope({"mask", "show", file + ":r7/", "--size", "2,3,4,5"}),
                   "not a list of runs");
  expect_bad_input(run_parscope({"mask", "show", file + ":r7/", "--size", "1,3,4,6"}),
                   "wrong length");
  expect_bad_input(run_parscope({"mask", "show", "lengths=6,x"}), "not a list of numbers");
  expect_bad_input(run_parscope({"mask", "show", "lengths=6,3 starts=1"}), "one start");
  expect_bad_input(run_parscope({"mask", "show", "lengths=6,3", "--size", "2,1,4,5"}),
                   "outside of the keys");
  expect_bad_input(run_parscope({"mask", "show", "is_causal=left", "--size", "4"}),
                   "unknown corner");
  expect_bad_input(run_parscope({"mask", "show", "is_causal=top-left"}), "has no size");
  expect_bad_input(run_parscope({"mask", "show", "cu_seqlens=0,4,3"}), "cu_seqlens");
}

TEST(MaskCommand, StepsAndLedgersAreChecked) {
  TempDir dir;
  const auto step = [](int n, int q_offset) {
    return json{{"schema", "parscope.mask/1"},
                {"B", 1},
                {"H", 1},
                {"Q", 1},
                {"KV", n},
                {"q_offset", q_offset},
                {"expr", {{"op", "causal"}}}};
  };
  ok_or_die(write_text(dir / "good.json", json{step(5, 4), step(6, 5)}.dump()));
  ok_or_die(write_text(dir / "bad.json", json{step(5, 4), step(6, 4)}.dump()));
  ok_or_die(
      write_text(dir / "ledger.json", R"([{"layer":3,"requested":"flex","executed":"sdpa"}])"));
  EXPECT_EQ(run_parscope({"mask", "check", "--step-list", dir / "good.json"}).code, 0);
  const Ran bad = run_parscope({"mask", "check", "--step-list", dir / "bad.json", "--ledger",
                                dir / "ledger.json", "--json"});
  EXPECT_EQ(bad.code, 1);
  EXPECT_EQ(ids(json::parse(bad.out)), (std::vector<std::string>{"MK050", "MK040"}));
}

TEST(MaskCommand, ShowDrawsExplainsAndWrites) {
  const Ran picture = run_parscope({"mask", "show", "causal & window(1)", "--size", "4"});
  EXPECT_EQ(picture.code, 0);
  EXPECT_NE(picture.out.find("0 #...\n1 ##..\n2 .##.\n3 ..##\n"), std::string::npos) << picture.out;
  const Ran why = run_parscope(
      {"mask", "show", golden("seed_segments_contiguous"), "--why", "0,0,30,5", "--json"});
  EXPECT_EQ(why.code, 0);
  EXPECT_EQ(json::parse(why.out)["inputs"]["why"]["change"]["to"], 5);
  TempDir dir;
  const Ran text = run_parscope({"mask", "show", golden("prefix_lm_padding"), "--text"});
  ok_or_die(write_text(dir / "p.mask", text.out));
  EXPECT_EQ(run_parscope({"mask", "diff", dir / "p.mask", golden("prefix_lm_padding")}).code, 0);
  EXPECT_EQ(run_parscope({"mask", "show", golden("causal"), "--png", dir / "c.png"}).code, 0);
  EXPECT_TRUE(value_or_die(read_text(dir / "c.png")).starts_with("\x89PNG"));
}

TEST(MaskCommand, BadInputIsOneLineWithThePlace) {
  TempDir dir;
  ok_or_die(write_text(dir / "bad.json", R"({"schema":"parscope.mask/1","B":1,"H":1,"Q":4,"KV":4,
    "expr":{"op":"and","args":[{"op":"causal"},{"op":"chunks"}]}})"));
  const std::string causal = golden("causal");
  expect_bad_input(run_parscope({"mask", "show", dir / "bad.json"}),
                   "bad.json#/expr/args/1/op: unknown op");
  expect_bad_input(run_parscope({"mask", "check", dir / "bad.json", causal}), "#/expr/args/1/op");
  expect_bad_input(run_parscope({"mask", "check", causal, dir / "bad.json", "--json"}),
                   "#/expr/args/1/op");
  expect_bad_input(run_parscope({"mask", "show", dir / "none.json"}), "no such file");
  expect_bad_input(run_parscope({"mask", "show", causal + "#/variants/9"}),
                   "nothing is at this pointer");
  expect_bad_input(run_parscope({"mask", "show", causal + "/data.safetensors"}),
                   "wrong number of axes");
  expect_bad_input(run_parscope({"mask", "show", causal + "/data.safetensors:nix"}),
                   "no tensor is named");
  expect_bad_input(run_parscope({"mask", "diff", "causal & widnow(3)", causal}),
                   "expression:1:10: unknown word");
  expect_bad_input(run_parscope({"mask", "diff", golden("prefix_lm_padding"), causal}),
                   "different sizes");
  expect_bad_input(run_parscope({"mask", "show", causal, "--why", "0,0,40,0"}), "no such pair");
  expect_bad_input(run_parscope({"mask", "show", causal, "--plane", "0,2"}), "no such plane");
  expect_bad_input(run_parscope({"mask", "show", causal, "--block", "0"}), "--block");
  expect_bad_input(run_parscope({"mask", "frobnicate"}), "cannot 'frobnicate'");
  // An output that cannot be written is found first, though the input is bad as well.
  expect_bad_input(run_parscope({"mask", "show", dir / "bad.json", "--png", dir / "a/b/c.png"}),
                   "uid " + std::to_string(::getuid()) + ": no folder " + (dir / "a").string());
}

// One wrong pair is never lost: 65,536 squared in a picture of a few thousand letters or pixels.
TEST(MaskPicture, OneWrongPairIsSeenAtAnySize) {
  const std::string n = "Q=65536 KV=65536\n";
  const auto make = [&](const std::string& expr) {
    return value_or_die(mask::evaluate(value_or_die(mask::parse_text(n + expr, "t"))));
  };
  const mask::Mask expected = make("causal");
  for (const auto& [i, j] : {std::pair<std::int64_t, std::int64_t>{65535, 3},
                             {12345, 12344},
                             {0, 65535},
                             {40000, 50001}}) {
    const auto cell = "q_range(" + std::to_string(i) + ", " + std::to_string(i + 1) +
                      ") & kv_range(" + std::to_string(j) + ", " + std::to_string(j + 1) + ")";
    const mask::Mask wrong = make("causal ^ (" + cell + ")");
    ASSERT_EQ(mask::difference(wrong, expected).only_a + mask::difference(wrong, expected).only_b,
              1);
    const mask::View view{&wrong, &expected, nullptr, 0, 0};
    const std::string text = mask::terminal_picture(view);
    const std::string cells = text.substr(0, text.find("a letter is"));
    EXPECT_EQ(std::count(cells.begin(), cells.end(), j <= i ? 'H' : 'L'), 1) << text;
    const Image image = mask::draw_mask(view);
    std::int64_t pixels = 0;
    for (int y = 0; y < image.height(); ++y) {
      for (int x = 0; x < image.width(); ++x) {
        const Color c = image.at(x, y);
        pixels += c == Color{205, 40, 20} || c == Color{20, 160, 230} ? 1 : 0;
      }
    }
    EXPECT_EQ(pixels, 9) << i << "," << j;
  }
}

TEST(MaskPicture, SampledPositionsHoldEveryBoundary) {
  const mask::Program p = value_or_die(mask::parse_text(
      "Q=248 KV=248\ncausal & (generated(238) | segments(0-48, 48-95, 95-141, 141-190, 190-238))",
      "t"));
  const auto at = mask::positions_to_show(&p, 0, 248);
  EXPECT_EQ(at.size(), 25U);
  for (const std::int64_t x : {0, 47, 48, 94, 95, 140, 141, 189, 190, 237, 238, 239, 240, 247}) {
    EXPECT_NE(std::find(at.begin(), at.end(), x), at.end()) << x;
  }
  EXPECT_EQ(mask::positions_to_show(nullptr, 0, 7).size(), 7U);
  EXPECT_EQ(mask::positions_to_show(nullptr, 5, 1), std::vector<std::int64_t>{0});
}

}  // namespace
}  // namespace ps
