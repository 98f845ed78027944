// Files that are broken, cut, absurd or meant to do harm: exit 2, one line, nothing written.
#include <functional>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/program.h"
#include "tests/support/raw_safetensors.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

std::string repeated(const std::string& text, int times) {
  std::string out;
  out.reserve(text.size() * static_cast<std::size_t>(times));
  for (int i = 0; i < times; ++i) out += text;
  return out;
}
constexpr int kDeep = 200'000;
std::string brackets() { return repeated("[", kDeep); }
std::string closed_brackets() { return brackets() + repeated("]", kDeep); }
std::string objects() { return repeated("{\"a\":", kDeep) + "1" + repeated("}", kDeep); }

std::string garbage() {
  std::string out;
  std::uint32_t x = 12345;
  for (int i = 0; i < 4099; ++i) out += static_cast<char>((x = x * 1664525u + 1013904223u) >> 24);
  return out;
}

std::string good_weights() { return get_file(bytes_model() / "model.safetensors"); }
std::string good_config() { return get_file(bytes_model() / "config.json"); }

std::string two_tensors(const std::string& a, const std::string& b, const std::string& data) {
  return raw_safetensors(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
                             R"(},"b":{"dtype":"U8","shape":[4],)" + R"("data_offsets":)" + b +
                             "}}",
                         data);
}

struct Bytes {
  const char* name;
  std::string bytes;
};

std::vector<Bytes> bad_safetensors() {
  return {
      {"empty", ""},
      {"seven bytes", "1234567"},
      {"garbage", garbage()},
      {"JSON", "{\"a\": 1}"},
      {"cut in the data", good_weights().substr(0, 1'000'003)},
      {"cut in the header", good_weights().substr(0, 1999)},
      {"bytes behind", good_weights() + "x"},
      {"overlap", two_tensors("[0,4]", "[3,7]", "1234567")},
      {"outside", two_tensors("[0,4]", "[4,8]", "1234567")},
      {"overflow", two_tensors("[0,4]", "[18446744073709551612,18446744073709551616]", "1234")},
      {"size overflows",
       raw_safetensors(
           R"({"a":{"dtype":"F64","shape":[4294967296,4294967296,2],"data_offsets":[0,0]}})", "")},
      {"name twice", raw_safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                     R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                     "12")},
      {"endless header", raw_safetensors("{}", "", ~std::uint64_t{0})},
      {"brackets", raw_safetensors("{\"a\":" + brackets(), "")},
      {"closed brackets", raw_safetensors("{\"a\":" + closed_brackets() + "}", "")},
      {"objects", raw_safetensors(objects(), "")},
      {"metadata brackets", raw_safetensors("{\"__metadata__\":" + closed_brackets() + "}", "")},
  };
}

std::vector<Bytes> bad_json() {
  return {
      {"empty", ""},
      {"garbage", garbage()},
      {"NUL bytes", std::string(37, '\0')},
      {"a list", "[1,2,3]"},
      {"null", "null"},
      {"cut", "{\"model_type\": \"qwen2_parsc"},
      {"name twice", R"({"format":"parscope-trace/1","model_type":"qwen2","a":1,"a":2})"},
      {"text behind", "{} {}"},
      {"brackets", brackets()},
      {"closed brackets", closed_brackets()},
      {"objects", objects()},
      {"brackets in a field", "{\"format\":" + closed_brackets() + "}"},
      {"brackets in input_ids", "{\"input_ids\":" + closed_brackets() + "}"},
      {"a huge number", "{\"vocab_size\": 1e999}"},
  };
}

// Every command that reads a model, on a model that it must refuse.
void expect_refused(const fs::path& model, const std::string& what) {
  const std::map<std::string, std::string> before = contents(model);
  const TempDir out;
  expect_bad_input(run_parscope({"lint", model}), "", what);
  expect_bad_input(run_parscope({"trace", model, "-o", out / "t", "--prompt", "x"}), "", what);
  expect_bad_input(run_parscope({"generate", model, "--prompt", "x"}), "", what);
  EXPECT_TRUE(out.names().empty()) << what;
  EXPECT_EQ(contents(model), before) << what;
}

TEST(CliHostile, WeightsThatAreNoSafetensorsAreRefused) {
  for (const Bytes& bad : bad_safetensors()) {
    const TempDir model;
    put_file(model / "config.json", good_config());
    put_file(model / "model.safetensors", bad.bytes);
    expect_refused(model.path(), bad.name);
  }
}

TEST(CliHostile, ConfigsThatAreNoConfigAreRefused) {
  for (const Bytes& bad : bad_json()) {
    const TempDir model;
    put_file(model / "config.json", bad.bytes);
    put_file(model / "model.safetensors", good_weights());
    expect_refused(model.path(), bad.name);
  }
}

TEST(CliHostile, FoldersAndPipesInPlaceOfFilesAreRefused) {
  for (const char* name : {"config.json", "model.safetensors"}) {
    for (const bool pipe : {false, true}) {
      const TempDir model;
      put_file(model / "config.json", good_config());
      put_file(model / "model.safetensors", good_weights());
      fs::remove(model / name);
      if (pipe) {
        ASSERT_EQ(::mkfifo((model / name).c_str(), 0600), 0);
      } else {
        fs::create_directory(model / name);
      }
      expect_refused(model.path(), name);
    }
  }
}

TEST(CliHostile, ModelsWithoutTheirFilesAreRefused) {
  const TempDir empty, no_weights;
  expect_refused(empty.path(), "empty");
  put_file(no_weights / "config.json", good_config());
  expect_refused(no_weights.path(), "no weights");
}

TEST(CliHostile, ShardsOutsideTheCheckpointAreRefused) {
  for (const char* file : {"../model.safetensors", "/etc/passwd", "a/../../x", "", "absent", "."}) {
    const TempDir model;
    put_file(model / "config.json", good_config());
    put_file(model / "model.safetensors.index.json",
             R"({"weight_map":{"model.norm.weight":")" + std::string(file) + "\"}}");
    expect_refused(model.path(), file);
  }
}

// Root may read everything, so the program runs as somebody else there.
Ran run_without_rights(std::vector<std::string> words) {
  if (::geteuid() != 0) return run_parscope(std::move(words));
  words.insert(words.begin(), {"/usr/bin/setpriv", "--reuid=65534", "--regid=65534",
                               "--clear-groups", "--", parscope_program()});
  return run_program(words);
}

TEST(CliHostile, UnreadableFilesAndFoldersAreRefused) {
  const Ran works = run_without_rights({"--version"});
  if (works.code != 0) GTEST_SKIP() << "cannot become another user here";
  for (const char* name : {"config.json", "model.safetensors", "."}) {
    const TempDir dir;
    fs::permissions(dir.path(), fs::perms(0755));
    const fs::path model = dir / "m";
    fs::create_directory(model);
    fs::permissions(model, fs::perms(0755));
    put_file(model / "config.json", good_config());
    put_file(model / "model.safetensors", good_weights());
    fs::permissions(model / name, fs::perms::none);
    expect_bad_input(run_without_rights({"lint", model}), "ermission denied", name);
    expect_bad_input(run_without_rights({"generate", model, "--prompt", "x"}), "ermission denied",
                     name);
    fs::permissions(model, fs::perms(0755));
  }
}

TEST(CliHostile, OutputFoldersThatCannotTakeATraceAreLeftAlone) {
  const TempDir dir;
  fs::create_directories(dir / "full");
  put_file(dir / "full/note", "mine");
  put_file(dir / "file", "mine");
  fs::create_directory(dir / "hidden");
  put_file(dir / "hidden/.note", "mine");
  const auto before = contents(dir.path());
  const auto trace = [](const std::string& out) {
    return run_parscope({"trace", bytes_model(), "-o", out, "--prompt", "x"});
  };
  expect_bad_input(trace(dir / "full"), "/full: is not empty");
  expect_bad_input(trace(dir / "hidden"), "/hidden: is not empty");
  expect_bad_input(trace(dir / "file"), "/file: is a file");
  expect_bad_input(trace(dir / "file/below"), "file is a file");
  if (has_reference()) expect_bad_input(trace("/proc/below"), "/proc/below: ");
  EXPECT_EQ(contents(dir.path()), before);
}

TEST(CliHostile, AnOutputFolderWithoutRightsIsBadInput) {
  if (run_without_rights({"lint", bytes_model()}).code != 0) GTEST_SKIP() << "not another user";
  const TempDir dir;
  fs::permissions(dir.path(), fs::perms(0555));
  fs::create_directory(dir / "empty");
  fs::permissions(dir / "empty", fs::perms(0555));
  for (const auto& [out, words] :
       {std::pair{"new", "has no permission to write in " + dir.path().string()},
        {"empty", std::string("cannot be written by uid")}}) {
    expect_bad_input(run_without_rights({"trace", bytes_model(), "-o", dir / out, "--prompt", "x"}),
                     words, out);
  }
  EXPECT_EQ(dir.names(), std::vector<std::string>{"empty"});
}

TEST(CliHostile, TokenFilesThatAreNoTokensAreRefused) {
  std::vector<Bytes> files = bad_json();
  for (const char* text : {
           "[]",
           "[[]]",
           "[1,2]",
           "[[1,2],[3]]",
           "[[1],2]",
           "[[1.0]]",
           "[[1e3]]",
           "[[true]]",
           "[[\"1\"]]",
           "[[null]]",
           "[[[1]]]",
           "[[256]]",
           "[[-1]]",
           "[[99999999999999999999]]",
           "{}",
           "\"hi\"",
           "7",
           R"({"attention_mask":[[1]]})",
           R"({"input_ids":[[1]],"x":1})",
           R"({"input_ids":[[1,2,3]],"attention_mask":[[1,1]]})",
           R"({"input_ids":[[1,2,3]],"attention_mask":[[1,1,1],[1,1,1]]})",
           R"({"input_ids":[[1,2,3]],"attention_mask":[[1,2,1]]})",
           R"({"input_ids":[[1,2,3]],"attention_mask":null})",
           R"({"input_ids":[[1,2,3]],"position_ids":[[0,1,2.5]]})",
           R"({"input_ids":[[1,2,3]],"position_ids":[[0,1,9223372036854775807]]})",
           R"({"input_ids":[[1]],"input_ids":[[2]]})",
       }) {
    files.push_back({text, text});
  }
  for (const Bytes& bad : files) {
    const TempDir dir;
    put_file(dir / "tokens.json", bad.bytes);
    expect_bad_input(
        run_parscope({"trace", bytes_model(), "-o", dir / "t", "--tokens", dir / "tokens.json"}),
        "tokens.json", bad.name);
    EXPECT_EQ(dir.names(), std::vector<std::string>{"tokens.json"}) << bad.name;
    EXPECT_EQ(get_file(dir / "tokens.json"), bad.bytes);
  }
  for (const std::string path : {"/nowhere", "/tmp", ""}) {
    expect_bad_input(run_parscope({"generate", bytes_model(), "--tokens", path}), path);
  }
}

TEST(CliHostile, TracesThatAreNoTraceAreRefused) {
  for (const Bytes& bad : bad_json()) {
    const TempDir trace;
    put_file(trace / "trace.json", bad.bytes);
    const auto before = contents(trace.path());
    expect_bad_input(run_parscope({"lint", trace.path()}), "trace.json", bad.name);
    EXPECT_EQ(contents(trace.path()), before);
  }
  for (const Bytes& bad : bad_safetensors()) {
    const TempDir trace;
    const char* name = "step-00000.rank-00000.safetensors";
    put_file(trace / name, bad.bytes);
    expect_bad_input(run_parscope({"lint", trace.path()}), name, bad.name);
    expect_bad_input(run_parscope({"lint", trace / name}), name, bad.name);
    EXPECT_EQ(get_file(trace / name), bad.bytes);
  }
  const TempDir empty;
  expect_bad_input(run_parscope({"lint", empty.path()}), "is no trace");
}

TEST(CliHostile, TraceFilesCannotLeadOutOfTheTrace) {
  const TempDir dir;
  put_file(dir / "secret.safetensors", raw_safetensors("{}", ""));
  fs::create_directory(dir / "t");
  const std::vector<std::string> files = {
      "../secret.safetensors", std::string(dir / "secret.safetensors"),
      "a/../../secret.safetensors", "..", "secret\\u0000.safetensors"};
  for (const std::string& file : files) {
    put_file(dir / "t/trace.json",
             R"({"format":"parscope-trace/1","steps":[{"step":0,"file":")" + file + "\"}]}");
    expect_bad_input(run_parscope({"lint", dir / "t"}), "leads out of the trace's directory", file);
  }
  put_file(dir / "t/trace.json",
           R"({"format":"parscope-trace/1","steps":[{"step":0,"file":"absent"}]})");
  expect_bad_input(run_parscope({"lint", dir / "t"}), "absent");
}

TEST(CliHostile, BrokenGoldenCasesFailOneByOneAndCrashNothing) {
  std::vector<Bytes> metas = bad_json();
  metas.push_back({"dtype is nested", "{\"dtype\":" + closed_brackets() + "}"});
  metas.push_back({"dtype is a number", "{\"dtype\":16}"});
  metas.push_back({"dtype is nothing", "{\"dtype\":\"float3\"}"});
  const fs::path golden = fixtures_dir() / "golden/parscale/ps_n1_eager";
  const TempDir dir;
  std::size_t cases = 0;
  const auto copy = [&](const std::string& name) {
    fs::copy(golden, dir / name, fs::copy_options::recursive);
    ++cases;
    return dir / name;
  };
  for (const Bytes& bad : metas) {
    if (bad.bytes.starts_with("{\"vocab")) continue;  // meta.json may hold any field
    put_file(copy("meta " + std::string(bad.name)) / "meta.json", bad.bytes);
  }
  for (const Bytes& bad : bad_json()) {
    fs::create_directory(dir / ("case " + std::string(bad.name)));
    put_file(dir / ("case " + std::string(bad.name) + "/case.json"), bad.bytes);
    ++cases;
  }
  fs::remove_all(copy("no steps") / "expected-f64");
  --cases;  // without expected-f64 it is no case
  fs::remove(copy("no meta") / "meta.json");
  const auto before = contents(dir.path());
  const Ran ran = run_parscope({"golden", "verify", dir.path(), "--engine", "reference"});
  EXPECT_EQ(ran.code, 1) << ran.err;
  EXPECT_EQ(ran.err, "");
  EXPECT_NE(ran.out.find("0 passed, " + std::to_string(cases) + " failed"), std::string::npos)
      << ran.out;
  EXPECT_EQ(contents(dir.path()), before);
}

TEST(CliHostile, FoldersWithoutGoldenCasesAreBadInput) {
  const TempDir dir;
  put_file(dir / "file", "");
  expect_bad_input(run_parscope({"golden", "verify", dir.path()}), "no golden case found");
  expect_bad_input(run_parscope({"golden", "verify", dir / "file"}), "");
  expect_bad_input(run_parscope({"golden", "verify", ""}), "");
}

TEST(CliHostile, LinksThatGoInCirclesEnd) {
  const TempDir dir;
  fs::create_directory_symlink(dir.path(), dir / "circle");
  expect_bad_input(run_parscope({"golden", "verify", dir.path()}), "no golden case found");
  fs::create_symlink(dir / "self", dir / "self");
  expect_bad_input(run_parscope({"lint", dir / "self"}), "self");
}

}  // namespace
}  // namespace ps
