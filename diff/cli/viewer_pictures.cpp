#include "diff/cli/viewer_pictures.h"

#include <chrono>
#include <cstdlib>
#include <fcntl.h>
#include <signal.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "core/file.h"
#include "core/library.h"

namespace ps::cli {

namespace {

namespace fs = std::filesystem;

// A folder of one's own, gone with the object.
class Folder {
 public:
  Folder() {
    std::error_code ec;
    std::string name = (fs::temp_directory_path(ec) / "parscope-XXXXXX").string();
    if (!ec && ::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ec;
    if (!path_.empty()) fs::remove_all(path_, ec);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// Whether it ended by itself, and well.
bool ran(const std::vector<std::string>& words) {
  const pid_t pid = ::fork();
  if (pid < 0) return false;
  if (pid == 0) {
    const int null = ::open("/dev/null", O_RDWR);
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, fd);
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  constexpr int kMostWaits = 2000;  // of 10 ms
  int status = 0;
  for (int i = 0; i < kMostWaits; ++i) {
    if (::waitpid(pid, &status, WNOHANG) == pid) return status == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, &status, 0);
  return false;
}

struct View {
  const char* file;
  const char* what;
  std::vector<std::string> words;
};

}  // namespace

std::vector<ReportPicture> viewer_pictures(const Report& report, const fs::path& dir) {
  std::error_code ec;
  const fs::path self = this_program(), viewer = self.parent_path() / "parscope-viewer";
  if (self.empty() || ::access(viewer.c_str(), X_OK) != 0) return {};
  std::vector<View> views = {{"view-divergence.png",
                              "layers by ops, as the viewer shows them",
                              {"--panel", "divergence", "--size", "1000x720"}}};
  if (report.replicas)
    views.push_back({"view-replicas.png",
                     "what each replica says, and what the aggregation makes of it",
                     {"--panel", "replicas", "--size", "1000x560", "--do", "mode actual"}});
  // The folder's name is in the picture, so it must be the one that a user will open.
  const Folder folder;
  const fs::path whole = fs::absolute(dir, ec).lexically_normal();
  const std::string name = whole.filename().empty() ? whole.parent_path().filename().string()
                                                    : whole.filename().string();
  const fs::path copy = folder.path() / (name.empty() ? "report" : name);
  if (folder.path().empty() || !fs::create_directory(copy, ec)) return {};
  if (!write_text(copy / "report.json", report_json(report)).ok()) return {};
  std::vector<ReportPicture> out;
  for (const View& view : views) {
    const fs::path file = folder.path() / view.file;
    std::vector<std::string> words = {viewer.string(), copy.string(), "--screenshot",
                                      file.string()};
    std::string caption = std::string(view.what) + "; the same bytes: parscope view " + name +
                          " --screenshot " + view.file;
    for (const std::string& word : view.words) {
      words.push_back(word);
      caption += " " + (word.find(' ') == std::string::npos ? word : "'" + word + "'");
    }
    if (!ran(words)) continue;
    Result<std::string> png = read_text(file, 1 << 26);
    if (!png.ok()) continue;
    // Dark in both themes: the viewer has one.
    out.push_back({view.file, caption, std::move(png).value(), ""});
  }
  return out;
}

}  // namespace ps::cli
