// The tests, tested: each fault of mutants/mutants.txt is planted in a copy of its source,
// compiled, linked in front of the library, and run by the CPU tests that are there to find it. A
// mutant that survives is a hole in the tests; one that does not compile is a stale row. Prints the
// table. Nothing in the tree is touched.
#include <atomic>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "core/file.h"
#include "model/thread_pool.h"
#include "tests/support/paths.h"

#ifndef PS_MODEL_CUDA_LINK  // the CUDA half and its runtime, where it was built
#define PS_MODEL_CUDA_LINK ""
#endif
#ifndef PS_OPENBLAS
#define PS_OPENBLAS "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.a"
#endif

namespace ps {
namespace {

namespace fs = std::filesystem;

struct Mutant {
  std::string name, file, runner, from, to;
};

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \n"), last = text.find_last_not_of(" \n");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

std::vector<Mutant> read_mutants(const std::string& text) {
  std::vector<Mutant> mutants;
  std::string* part = nullptr;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.starts_with("#") || line.empty()) continue;
    if (line.starts_with("=== ")) {
      Mutant mutant;
      const std::size_t a = line.find(" | "), b = line.find(" | ", a + 3);
      mutant.name = line.substr(4, a - 4);
      mutant.file = line.substr(a + 3, b - a - 3);
      mutant.runner = line.substr(b + 3);
      mutants.push_back(mutant);
      continue;
    }
    if (line.starts_with("<<<")) part = &mutants.back().from;
    if (line.starts_with(">>>")) part = &mutants.back().to;
    *part += (line.starts_with("<<<") || line.starts_with(">>>") ? line.substr(3) : line) + "\n";
  }
  for (Mutant& mutant : mutants) {
    mutant.from = trimmed(mutant.from);
    mutant.to = trimmed(mutant.to);
  }
  return mutants;
}

// The places where `pattern` stands in `text`, white space aside: [begin, end).
std::vector<std::pair<std::size_t, std::size_t>> places_of(const std::string& text,
                                                           const std::string& pattern) {
  const auto blank = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  std::vector<std::pair<std::size_t, std::size_t>> places;
  for (std::size_t begin = 0; begin < text.size(); ++begin) {
    std::size_t t = begin, p = 0;
    while (p < pattern.size()) {
      if (blank(pattern[p])) {
        ++p;
      } else if (t > begin && t < text.size() && blank(text[t])) {
        ++t;
      } else if (t < text.size() && text[t] == pattern[p]) {
        ++t;
        ++p;
      } else {
        break;
      }
    }
    if (p == pattern.size()) places.emplace_back(begin, t);
  }
  return places;
}

int run(const std::string& command) { return std::system(("timeout 120 " + command).c_str()); }

std::string compiler() {
  const char* chosen = std::getenv("CXX");
  return chosen != nullptr ? chosen : "c++";
}

constexpr const char *kSupport = "../diff/run/random_model", *kPaths = "support/paths";

// "model_golden_test *FloatRun*" is judged by the test model_golden_test.
std::string test_of(const Mutant& mutant) {
  return mutant.runner.substr(0, mutant.runner.find(' '));
}

class Bench {
 public:
  explicit Bench(fs::path dir) : dir_(std::move(dir)) { fs::create_directories(dir_); }
  ~Bench() { fs::remove_all(dir_); }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  // A source of tests/ as an object, compiled once for all mutants that it judges.
  bool prepare(const std::string& source) const {
    return run(compile(dir_, "") + " -c " + root() + "/tests/" + source + ".cpp -o " +
               object_of(source)) == 0;
  }
  // What the tests say about a mutant: who caught it, "survived", or why it could not be judged.
  std::string judge(const Mutant& mutant, std::size_t index) const {
    const fs::path home = dir_ / std::to_string(index);
    const fs::path copy = home / mutant.file;
    fs::create_directories(copy.parent_path());
    const auto source = read_text(fs::path(root()) / mutant.file);
    if (!source) return "no such file";
    const auto places = places_of(*source, mutant.from);
    if (places.size() != 1)
      return "stale: the text stands there " + std::to_string(places.size()) + " times";
    std::string text = *source;
    text.replace(places[0].first, places[0].second - places[0].first, mutant.to);
    if (!write_text(copy, text)) return "cannot write";

    const std::string program = (home / "judge").string(), log = (home / "log").string();
    const std::string objects = (home / "mutant.o").string();
    std::string input = copy.string(), defines, judges;
    if (mutant.runner.starts_with("op ")) {
      input = root() + "/tests/mutants/run_op.cpp";
      const std::string op = mutant.runner.substr(3);
      defines = " -DPS_MUTANT_OP=" + op + " -DPS_MUTANT_HEADER='\"model/ops/" + op + ".h\"'";
    } else {
      judges = object_of(test_of(mutant)) + " " + object_of(kSupport) + " " + object_of(kPaths) +
               " -lgtest -lgtest_main";
    }
    if (run(compile(home, defines) + " -c " + input + " -o " + objects + " > " + log + " 2>&1") !=
        0)
      return "does not compile";
    if (run(compiler() + " " + objects + libraries() + " " + judges + libraries() +
            " -lpthread -ldl -o " + program + " > " + log + " 2>&1") != 0)
      return "does not link";
    const std::size_t space = mutant.runner.find(' ');
    const std::string filter = judges.empty() || space == std::string::npos
                                   ? ""
                                   : " --gtest_filter=" + mutant.runner.substr(space + 1);
    if (run(program + filter + " > " + log + " 2>&1") == 0) return "survived";
    if (!judges.empty()) return test_of(mutant);
    std::ifstream in(log);
    std::string who;
    std::getline(in, who);
    return who.empty() ? "a check stopped it" : who;
  }

 private:
  std::string object_of(const std::string& source) const {
    return (dir_ / (fs::path(source).filename().string() + ".o")).string();
  }
  static std::string root() { return source_dir(); }
  static std::string compile(const fs::path& first, const std::string& defines) {
    return compiler() + " -std=c++20 -O1 -ffp-contract=off -fPIC -DPS_SOURCE_DIR='\"" + root() +
           "\"' -DPS_BINARY_DIR='\"" + binary_dir() + "\"'" + defines + " -I" + first.string() +
           " -I" + root();
  }
  static std::string libraries() {
    const std::string build = binary_dir();
    // What libps_core.a packs traces with, where it was built with it.
    constexpr const char* kZstd = " /usr/lib/x86_64-linux-gnu/libzstd.a";
    const char* zstd = fs::exists(kZstd + 1) ? kZstd : "";
    return " -Wl,--start-group " + build + "/libps_model.a " + build + "/libps_core.a " +
           PS_OPENBLAS + zstd + PS_MODEL_CUDA_LINK + " -Wl,--end-group";
  }
  fs::path dir_;
};

TEST(Mutants, AreAllCaughtByATestOnTheCpu) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_UNDEFINED__)
  GTEST_SKIP() << "the library of this build needs its sanitizer";
#endif
  if (!fs::exists(fs::path(binary_dir()) / "libps_model.a"))
    GTEST_SKIP() << "no libps_model.a in " << binary_dir();
  if (run(compiler() + " --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no compiler at hand";
  const auto text = read_text(fs::path(source_dir()) / "tests/mutants/mutants.txt");
  ASSERT_TRUE(text.ok());
  const std::vector<Mutant> mutants = read_mutants(*text);
  ASSERT_GE(mutants.size(), 20u);

  const auto start = std::chrono::steady_clock::now();
  const Bench bench(fs::temp_directory_path() / ("parscope-mutants-" + std::to_string(::getpid())));
  ThreadPool pool(2);
  std::set<std::string> sources{kSupport, kPaths};
  for (const Mutant& mutant : mutants) {
    if (!mutant.runner.starts_with("op ")) sources.insert(test_of(mutant));
  }
  const std::vector<std::string> judges(sources.begin(), sources.end());
  std::atomic<int> ready = 0;
  pool.run(static_cast<std::int64_t>(judges.size()), [&](std::int64_t i, int) {
    if (bench.prepare(judges[static_cast<std::size_t>(i)])) ++ready;
  });
  ASSERT_EQ(ready, static_cast<int>(judges.size())) << "a test does not compile";
  std::vector<std::string> verdicts(mutants.size());
  pool.run(static_cast<std::int64_t>(mutants.size()), [&](std::int64_t i, int) {
    verdicts[static_cast<std::size_t>(i)] =
        bench.judge(mutants[static_cast<std::size_t>(i)], static_cast<std::size_t>(i));
  });
  // Whoever reads the table must know that the judges pass the tree as it is.
  const std::vector<Mutant> none{
      {"none", "model/ops/rms_norm.h", "op rms_norm", "sqrtf(mean + eps)", "sqrtf(mean + eps)"},
      {"none", "model/gemm/gemm_plan.cpp", "gemm_plan_test",
       ".lda = leading(weight.stride(0), in, out)", ".lda = leading(weight.stride(0), in, out)"},
      {"none", "model/kv_cache.cpp", "model_golden_test *FloatRun*",
       "#include \"model/kv_cache.h\"", "#include \"model/kv_cache.h\""}};
  for (std::size_t i = 0; i < none.size(); ++i)
    EXPECT_EQ(bench.judge(none[i], mutants.size() + i), "survived") << none[i].runner;

  std::printf("%-58s %-36s %s\n", "fault", "planted in", "caught by");
  for (std::size_t i = 0; i < mutants.size(); ++i) {
    std::printf("%-58s %-36s %s\n", mutants[i].name.c_str(), mutants[i].file.c_str(),
                verdicts[i].c_str());
    const bool judged = !verdicts[i].starts_with("stale") && !verdicts[i].starts_with("does not") &&
                        !verdicts[i].starts_with("no such") && !verdicts[i].starts_with("cannot");
    EXPECT_TRUE(judged && verdicts[i] != "survived") << mutants[i].name << ": " << verdicts[i];
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%zu faults in %.0f s\n", mutants.size(), seconds);
}

}  // namespace
}  // namespace ps
