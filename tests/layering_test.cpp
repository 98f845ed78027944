// Holds every #include to the layer table (the root README draws it). The checker is a function
// over one file's path and text, so the tests at the end can plant violations and see them found.
// There is no list of exceptions: a layer that needs one is the wrong layer.
#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/paths.h"

namespace ps {
namespace {

namespace fs = std::filesystem;

struct Layer {
  std::string_view name;
  std::vector<std::string_view> may_include;  // of our own folders
};

const std::vector<Layer>& layers() {
  static const std::vector<Layer> kLayers = {
      {"core", {"core"}},
      {"model", {"model", "core"}},
      {"reference", {"reference", "core"}},
      {"diff", {"diff", "core"}},
      {"diff/cli", {"diff/cli", "diff", "core", "model", "reference"}},
      {"viewer", {"viewer", "core", "diff"}},
  };
  return kLayers;
}

// Third parties, by how their includes begin, and the files that may see them.
struct ThirdParty {
  std::string_view name;
  std::vector<std::string_view> begins;
  bool (*allowed)(std::string_view path);
  std::string_view rule;
};

bool in(std::string_view path, std::string_view folder) {
  return path.starts_with(folder) && path.substr(folder.size()).starts_with("/");
}

const std::vector<ThirdParty>& third_parties() {
  static const std::vector<ThirdParty> kThirdParties = {
      {"LibTorch",
       {"torch/", "ATen/", "c10/", "caffe2/"},
       [](std::string_view p) { return in(p, "reference"); },
       "only reference/ sees LibTorch"},
      {"nlohmann-json",
       {"nlohmann/"},
       [](std::string_view p) { return p.ends_with(".cpp") && (in(p, "core") || in(p, "diff")); },
       "only .cpp files of core/ and diff/ see nlohmann-json"},
      {"CUDA",
       {"cuda", "cublas", "curand", "cusparse", "cusolver", "nccl", "cub/", "thrust/", "mma.h"},
       [](std::string_view p) {
         return in(p, "model") &&
                (p.ends_with(".cu") || p.ends_with(".cuh") || p.ends_with("_cuda.cpp"));
       },
       "only .cu, .cuh and _cuda.cpp files of model/ see CUDA"},
      {"a BLAS",
       {"cblas", "f77blas", "openblas"},
       [](std::string_view p) { return in(p, "model"); },
       "only model/ sees the host BLAS"},
      {"Gloo",
       {"gloo/"},
       [](std::string_view p) { return in(p, "diff/ranks/gloo"); },
       "only diff/ranks/gloo/ sees Gloo"},
      {"zstd",
       {"zstd", "zdict"},
       [](std::string_view p) { return p == "core/zstd.cpp"; },
       "only core/zstd.cpp sees zstd"},
      {"the window libraries",
       {"imgui", "GLFW/", "GL/", "stb_"},
       [](std::string_view p) { return in(p, "viewer"); },
       "only viewer/ sees Dear ImGui, GLFW and GL"},
  };
  return kThirdParties;
}

// Besides <vector> and its like (no dot, no slash): what the system and the compiler bring.
bool is_system_header(std::string_view include) {
  static constexpr std::array<std::string_view, 10> kFolders = {
      "sys/", "arpa/", "netinet/", "linux/",        "asm/",
      "net/", "bits/", "ext/",     "experimental/", "x86_64-linux-gnu/"};
  static const std::set<std::string_view> kFiles = {
      "assert.h",   "cxxabi.h",   "dirent.h",   "dlfcn.h",  "elf.h",     "errno.h",   "execinfo.h",
      "fcntl.h",    "fenv.h",     "float.h",    "getopt.h", "glob.h",    "grp.h",     "immintrin.h",
      "arm_neon.h", "inttypes.h", "limits.h",   "link.h",   "malloc.h",  "math.h",    "netdb.h",
      "poll.h",     "pthread.h",  "pwd.h",      "sched.h",  "signal.h",  "spawn.h",   "stddef.h",
      "stdint.h",   "stdio.h",    "stdlib.h",   "string.h", "strings.h", "termios.h", "time.h",
      "ucontext.h", "unistd.h",   "x86intrin.h"};
  if (include.find_first_of("./") == std::string_view::npos) return true;
  return kFiles.contains(include) ||
         std::any_of(kFolders.begin(), kFolders.end(),
                     [&](std::string_view folder) { return include.starts_with(folder); });
}

// The layer a path is in: the longest that fits ("diff/cli" before "diff"); "" for none.
std::string_view layer_of(std::string_view path) {
  std::string_view best;
  for (const Layer& layer : layers())
    if (in(path, layer.name) && layer.name.size() > best.size()) best = layer.name;
  return best;
}

struct Include {
  int line = 0;
  char open = 0;  // < or ", and 0 where the name is a macro
  std::string name;
};

std::string_view trim_left(std::string_view s) {
  s.remove_prefix(std::min(s.find_first_not_of(" \t"), s.size()));
  return s;
}

// Lines inside a block comment count as well: nobody keeps old includes there.
std::vector<Include> includes_of(std::string_view text) {
  std::vector<Include> found;
  int line = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view rest = trim_left(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line;
    if (!rest.starts_with('#')) continue;
    rest = trim_left(rest.substr(1));
    if (!rest.starts_with("include")) continue;
    rest = trim_left(rest.substr(std::string_view("include").size()));
    const char open = rest.empty() ? '\0' : rest.front();
    const size_t close = open == '<' ? rest.find('>') : open == '"' ? rest.find('"', 1) : rest.npos;
    if (close == rest.npos)
      found.push_back({line, '\0', std::string(rest)});
    else
      found.push_back({line, open, std::string(rest.substr(1, close - 1))});
  }
  return found;
}

using Exists = std::function<bool(const std::string& path)>;  // of a path from the root

// What `include` breaks when `path` has it; "" when nothing.
std::string broken_rule(std::string_view path, const Include& include, const Exists& exists) {
  const std::string_view layer = layer_of(path);
  const std::string& name = include.name;
  if (include.open == '\0') return "the included file must be written out";
  for (const ThirdParty& party : third_parties())
    for (std::string_view begin : party.begins)
      if (name.starts_with(begin) && layer_of(name).empty())
        return party.allowed(path) ? "" : std::string(party.rule);
  if (include.open == '<')
    return is_system_header(name)
               ? ""
               : "unknown third party; tests/layering_test.cpp says who may see what";

  const fs::path normal = fs::path(name).lexically_normal();
  if (normal != fs::path(name)) return "write the path without . and ..";
  const std::string_view target = layer_of(name);
  if (target.empty()) {
    const bool beside = exists((fs::path(path).parent_path() / name).generic_string());
    return beside ? "write it from the root" : "not in any layer that may be included";
  }
  const auto from = std::find_if(layers().begin(), layers().end(),
                                 [&](const Layer& l) { return l.name == layer; });
  const auto& allowed = from->may_include;
  if (std::find(allowed.begin(), allowed.end(), target) == allowed.end())
    return std::string(layer) + " may not include " + std::string(target);
  if (!exists(name)) return "there is no such file";
  return "";
}

// The checker. One message a violation, each beginning with file:line.
std::vector<std::string> check(std::string_view path, std::string_view text, const Exists& exists) {
  std::vector<std::string> messages;
  if (layer_of(path).empty()) return messages;
  for (const Include& include : includes_of(text)) {
    const std::string rule = broken_rule(path, include, exists);
    if (rule.empty()) continue;
    messages.push_back(std::string(path) + ":" + std::to_string(include.line) + ": includes " +
                       include.name + ": " + rule);
  }
  return messages;
}

// Outside reference/, no file may reach LibTorch through a header either: diff/cli includes
// reference/, but only headers that are free of it. `files` maps paths to texts.
std::vector<std::string> check_hidden_torch(const std::map<std::string, std::string>& files) {
  std::map<std::string, bool> sees;
  const std::function<bool(const std::string&)> sees_torch = [&](const std::string& path) {
    if (const auto known = sees.find(path); known != sees.end()) return known->second;
    sees[path] = false;  // ends a cycle
    const auto file = files.find(path);
    if (file == files.end()) return false;
    bool result = false;
    for (const Include& include : includes_of(file->second)) {
      const auto& begins = third_parties().front().begins;
      result |= std::any_of(begins.begin(), begins.end(),
                            [&](std::string_view b) { return include.name.starts_with(b); });
      result = result || sees_torch(include.name);
    }
    return sees[path] = result;
  };
  std::vector<std::string> messages;
  for (const auto& [path, text] : files) {
    if (in(path, "reference")) continue;
    for (const Include& include : includes_of(text))
      if (in(include.name, "reference") && sees_torch(include.name))
        messages.push_back(path + ":" + std::to_string(include.line) + ": includes " +
                           include.name + ": it brings LibTorch along");
  }
  return messages;
}

std::map<std::string, std::string> source_tree(const fs::path& root) {
  static const std::set<std::string> kExtensions = {".h",   ".hpp", ".cpp", ".cu",
                                                    ".cuh", ".def", ".inc"};
  std::map<std::string, std::string> files;
  for (const char* folder : {"core", "model", "reference", "diff", "viewer"}) {
    if (!fs::is_directory(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file() || !kExtensions.contains(entry.path().extension())) continue;
      std::ostringstream text;
      text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
      files[entry.path().lexically_relative(root).generic_string()] = text.str();
    }
  }
  return files;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string& line : lines) all += line + "\n";
  return all;
}

TEST(Layering, EveryIncludeKeepsToTheTable) {
  const fs::path root = source_dir();
  const auto files = source_tree(root);
  ASSERT_TRUE(files.contains("core/view.h")) << "this test looks at the wrong tree: " << root;
  for (const auto& [path, text] : files) {
    const auto messages =
        check(path, text, [&](const std::string& p) { return fs::exists(root / p); });
    EXPECT_TRUE(messages.empty()) << joined(messages);
  }
  const auto hidden = check_hidden_torch(files);
  EXPECT_TRUE(hidden.empty()) << joined(hidden);
}

// ---- the checker itself -----------------------------------------------------------------------

bool everything_exists(const std::string&) { return true; }
bool nothing_exists(const std::string&) { return false; }

struct Planted {
  std::string_view path;
  std::string_view include;  // what follows #include
};

TEST(Layering, PlantedViolationsAreFound) {
  const Planted bad[] = {
      {"core/a.cpp", "\"diff/compare/compare.h\""},
      {"core/a.h", "\"model/engine.h\""},
      {"core/a.h", "<nlohmann/json.hpp>"},
      {"core/sub/a.h", "<nlohmann/json_fwd.hpp>"},
      {"core/a.cpp", "<ATen/ATen.h>"},
      {"core/a.cpp", "<boost/any.hpp>"},
      {"core/a.cpp", "<cuda_fp16.h>"},
      {"core/a.cpp", "\"tests/support/temp_dir.h\""},
      {"model/a.cpp", "\"reference/reference.h\""},
      {"model/a.cpp", "\"diff/detect/detector.h\""},
      {"model/a.cpp", "<nlohmann/json.hpp>"},
      {"model/a.cpp", "<cublas_v2.h>"},
      {"model/ops/a.h", "<cuda_runtime.h>"},
      {"model/a.cpp", "<torch/torch.h>"},
      {"reference/a.cpp", "\"model/ops/op.h\""},
      {"reference/faults/a.cpp", "\"diff/report/report.h\""},
      {"reference/a.cpp", "<nlohmann/json.hpp>"},
      {"reference/a_cuda.cpp", "<cuda_runtime_api.h>"},
      {"reference/a.cpp", "<cblas.h>"},
      {"diff/compare/a.cpp", "\"model/engine.h\""},
      {"diff/detect/a.cpp", "\"reference/reference.h\""},
      {"diff/report/a.cpp", "\"diff/cli/command.h\""},
      {"diff/report/a.h", "<nlohmann/json.hpp>"},
      {"diff/a.cpp", "<c10/util/Half.h>"},
      {"diff/cli/a.cpp", "\"viewer/app.h\""},
      {"diff/cli/a.cpp", "<torch/script.h>"},
      {"viewer/a.cpp", "\"model/engine.h\""},
      {"viewer/a.cpp", "\"reference/reference.h\""},
      {"viewer/a.cpp", "\"diff/cli/command.h\""},
      {"diff/a.cpp", "<imgui.h>"},
      {"diff/ranks/a.cpp", "<gloo/allreduce.h>"},
      {"core/packed.cpp", "<zstd.h>"},
      {"diff/a.cpp", "\"../core/view.h\""},
      {"diff/compare/a.cpp", "\"align.h\""},
      {"core/a.cpp", "SOME_MACRO"},
  };
  for (const Planted& p : bad) {
    const std::string text = "// a file\n  #  include " + std::string(p.include) + "\nint x;\n";
    const auto messages = check(p.path, text, everything_exists);
    ASSERT_EQ(messages.size(), 1u) << p.path << " " << p.include;
    EXPECT_TRUE(messages[0].starts_with(std::string(p.path) + ":2: ")) << messages[0];
  }
}

TEST(Layering, WhatTheTableAllowsPasses) {
  const Planted good[] = {
      {"core/a.h", "<vector>"},
      {"core/a.cpp", "<sys/mman.h>"},
      {"core/a.cpp", "<nlohmann/json.hpp>"},
      {"core/a.cpp", "\"core/view.h\"  // IWYU pragma: keep"},
      {"model/ops/a.h", "\"model/ops/op.h\""},
      {"model/gemm/a.cu", "<cublas_v2.h>"},
      {"model/a_cuda.cpp", "<cuda_runtime.h>"},
      {"reference/a.cpp", "<ATen/ops/ones.h>"},
      {"reference/torch.h", "<torch/types.h>"},
      {"diff/report/json.cpp", "<nlohmann/json.hpp>"},
      {"diff/compare/a.cpp", "<immintrin.h>"},
      {"diff/ranks/gloo/a.cpp", "<gloo/allreduce.h>"},
      {"core/zstd.cpp", "<zstd.h>"},
      {"diff/cli/commands/a.cpp", "\"model/engine.h\""},
      {"diff/cli/a.cpp", "\"reference/reference.h\""},
      {"viewer/a.cpp", "\"diff/compare/compare.h\""},
      {"viewer/a.cpp", "<GLFW/glfw3.h>"},
      {"tests/a.cpp", "\"reference/reference.h\""},
  };
  for (const Planted& p : good) {
    const auto messages =
        check(p.path, "#include " + std::string(p.include) + "\n", everything_exists);
    EXPECT_TRUE(messages.empty()) << joined(messages);
  }
  EXPECT_TRUE(
      check("core/a.cpp", "// #include \"model/a.h\"\nint included;", nothing_exists).empty());
}

TEST(Layering, IncludedFilesMustExist) {
  const auto messages = check("diff/a.cpp", "#include \"core/veiw.h\"", nothing_exists);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0], "diff/a.cpp:1: includes core/veiw.h: there is no such file");
}

TEST(Layering, LibTorchBehindAHeaderIsFound) {
  std::map<std::string, std::string> files = {
      {"diff/cli/a.cpp", "#include <vector>\n#include \"reference/reference.h\"\n"},
      {"reference/reference.h", "#include \"reference/bridge.h\"\n"},
      {"reference/bridge.h", "#include \"reference/reference.h\"\n#include <ATen/core/Tensor.h>\n"},
      {"reference/b.cpp", "#include \"reference/bridge.h\"\n"},
  };
  const auto messages = check_hidden_torch(files);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_TRUE(messages[0].starts_with("diff/cli/a.cpp:2: ")) << messages[0];
  files["reference/bridge.h"] = "#include \"reference/reference.h\"\n";
  EXPECT_TRUE(check_hidden_torch(files).empty());
}

}  // namespace
}  // namespace ps
