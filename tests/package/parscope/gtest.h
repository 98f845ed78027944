// GoogleTest assertions on traces. They run the parscope program (PARSCOPE_PROGRAM, set by
// find_package(parscope), or by an environment variable of that name), and fail with its report:
// the first value that is wrong, where, and the cause if it has a name.
//
//   EXPECT_EQUIVALENT("out/", "expected/");          two traces, or files of tensors
//   EXPECT_EQUIVALENT_TO_MODEL("out/", "my-model/"); a trace, op by op, against a model's folder
#pragma once

#include <cstdlib>
#include <fcntl.h>
#include <initializer_list>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

extern char** environ;

namespace parscope {

struct Outcome {
  int code = -1;  // parscope's exit code; -1: it did not run
  std::string text;
};

inline std::string program() {
  if (const char* given = std::getenv("PARSCOPE_PROGRAM")) return given;
#ifdef PARSCOPE_PROGRAM
  return PARSCOPE_PROGRAM;
#else
  return "parscope";
#endif
}

// Runs parscope with these words; what it prints on both streams is the text.
inline Outcome run(const std::vector<std::string>& words) {
  Outcome out;
  int ends[2];
  if (::pipe(ends) != 0) return out;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);
  std::vector<std::string> all = words;
  all.insert(all.begin(), program());
  std::vector<char*> argv;
  for (std::string& word : all) argv.push_back(&word[0]);
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  char part[4096];
  for (ssize_t n; (n = ::read(ends[0], part, sizeof part)) > 0;) {
    out.text.append(part, static_cast<std::size_t>(n));
  }
  ::close(ends[0]);
  if (error != 0) {
    out.text = argv[0] + std::string(" cannot be run; set PARSCOPE_PROGRAM");
    return out;
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return out;
}

inline ::testing::AssertionResult verdict(const Outcome& outcome) {
  if (outcome.code == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "\n" << outcome.text;
}

inline ::testing::AssertionResult equivalent(const std::string& candidate,
                                             const std::string& expected,
                                             const std::vector<std::string>& options = {}) {
  std::vector<std::string> words = {"diff", candidate, expected};
  words.insert(words.end(), options.begin(), options.end());
  return verdict(run(words));
}

inline ::testing::AssertionResult equivalent_to_model(
    const std::string& candidate, const std::string& model,
    const std::vector<std::string>& options = {}) {
  std::vector<std::string> words = {"diagnose", candidate, "--model", model};
  words.insert(words.end(), options.begin(), options.end());
  return verdict(run(words));
}

}  // namespace parscope

#define EXPECT_EQUIVALENT(...) EXPECT_TRUE(::parscope::equivalent(__VA_ARGS__))
#define ASSERT_EQUIVALENT(...) ASSERT_TRUE(::parscope::equivalent(__VA_ARGS__))
#define EXPECT_EQUIVALENT_TO_MODEL(...) EXPECT_TRUE(::parscope::equivalent_to_model(__VA_ARGS__))
#define ASSERT_EQUIVALENT_TO_MODEL(...) ASSERT_TRUE(::parscope::equivalent_to_model(__VA_ARGS__))
