// Runs build/parscope as a user would, and models that are wrong on purpose for it to read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <map>
#include <spawn.h>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "core/safetensors.h"
#include "tests/support/fixtures.h"
#include "tests/support/paths.h"
#include "tests/support/temp_dir.h"

namespace ps {

struct Ran {
  int code = -1;  // exit code; 128 + signal where one ended it; -1 where it did not start
  std::string out, err;

  std::int64_t lines_of_err() const { return std::count(err.begin(), err.end(), '\n'); }
};

inline std::string parscope_program() { return binary_dir() + "/parscope"; }

inline bool has_reference() {
  return std::filesystem::exists(binary_dir() + "/libparscope_reference.so");
}
#define PS_NEEDS_REFERENCE() \
  if (!has_reference()) GTEST_SKIP() << "built without LibTorch"

// Starts a program that reads nothing and writes streams/out and streams/err; -1 where it does not
// start. `environment` is added to ours: "NAME=value".
inline pid_t spawn_program(std::vector<std::string> words,
                           const std::vector<std::string>& environment, const TempDir& streams) {
  const std::string out = streams / "out", err = streams / "err";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), kFlags, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), kFlags, 0600);
  std::vector<char*> argv, envp;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  for (const std::string& entry : environment) envp.push_back(const_cast<char*>(entry.c_str()));
  for (char** entry = environ; *entry != nullptr; ++entry) envp.push_back(*entry);
  envp.push_back(nullptr);
  pid_t pid = -1;
  if (posix_spawnp(&pid, words[0].c_str(), &actions, nullptr, argv.data(), envp.data()) != 0) {
    pid = -1;
  }
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}
inline int exit_code_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

inline Ran run_program(std::vector<std::string> words,
                       const std::vector<std::string>& environment = {}) {
  const TempDir streams;
  const pid_t pid = spawn_program(std::move(words), environment, streams);
  Ran ran;
  if (pid > 0) {
    int status = 0;
    waitpid(pid, &status, 0);
    ran.code = exit_code_of(status);
  }
  ran.out = get_file(streams / "out");
  ran.err = get_file(streams / "err");
  return ran;
}

inline Ran run_parscope(std::vector<std::string> words,
                        const std::vector<std::string>& environment = {}) {
  words.insert(words.begin(), parscope_program());
  return run_program(std::move(words), environment);
}

// One line on stderr that holds `message`, nothing on stdout, exit code 2.
inline void expect_bad_input(const Ran& ran, std::string_view message,
                             const std::string& what = "") {
  EXPECT_EQ(ran.code, 2) << what << "\n" << ran.err;
  EXPECT_EQ(ran.out, "") << what;
  EXPECT_EQ(ran.lines_of_err(), 1) << what << "\n" << ran.err;
  EXPECT_TRUE(ran.err.starts_with("parscope")) << what << "\n" << ran.err;
  EXPECT_NE(ran.err.find(message), std::string::npos) << what << "\n" << ran.err;
}

inline std::filesystem::path bytes_model() { return fixtures_dir() / "models" / "parscale-bytes"; }

// Every file below a folder, by its path, with its bytes.
inline std::map<std::string, std::string> contents(const std::filesystem::path& dir) {
  std::map<std::string, std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir)) {
    const std::string name = entry.path().lexically_relative(dir).string();
    out[name] = entry.is_regular_file() ? get_file(entry.path()) : "";
  }
  return out;
}

// Copies `from` to `to`; `edit` may change a tensor, or return false to leave it out. Tensors in
// `more` are added.
using EditTensor = std::function<bool(const std::string& name, Tensor& tensor)>;
inline void edit_tensors(const std::filesystem::path& from, const std::filesystem::path& to,
                         const EditTensor& edit, const std::map<std::string, Tensor>& more = {}) {
  const Result<SafetensorsFile> file = SafetensorsFile::open(from);
  ASSERT_TRUE(file.ok()) << file.error().line();
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(to);
  ASSERT_TRUE(writer.ok()) << writer.error().line();
  for (const SafetensorsFile::Entry& entry : file->entries()) {
    Tensor tensor = Tensor::copy_of(entry.view);
    if (!edit(entry.name, tensor)) continue;
    ASSERT_TRUE(writer->add(entry.name, tensor.view()).ok());
  }
  for (const auto& [name, tensor] : more) ASSERT_TRUE(writer->add(name, tensor.view()).ok());
  const Result<void> closed = writer->close();
  ASSERT_TRUE(closed.ok()) << closed.error().line();
}

// A copy of the byte-level model with its weights edited.
inline void copy_bytes_model(const std::filesystem::path& dir, const EditTensor& edit,
                             const std::map<std::string, Tensor>& more = {}) {
  std::filesystem::create_directories(dir);
  put_file(dir / "config.json", get_file(bytes_model() / "config.json"));
  edit_tensors(bytes_model() / "model.safetensors", dir / "model.safetensors", edit, more);
}

}  // namespace ps
