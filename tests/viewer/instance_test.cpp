// Links and files handed to a viewer that runs.
#include "viewer/present/instance.h"

#include <atomic>
#include <sys/stat.h>
#include <thread>

#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace ps::viewer {
namespace {

// Answers until the object goes, as the window's loop does.
class Answering {
 public:
  explicit Answering(const std::filesystem::path& socket)
      : instance(socket, [] {}), thread_([this](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            instance.answer([this](const std::vector<std::string>& lines) -> Result<void> {
              for (const std::string& line : lines) {
                if (line == "bad") return bad_input("bad", "is refused");
                said += line + "|";
              }
              return {};
            });
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
        }) {}
  Instance instance;
  std::string said;

 private:
  std::jthread thread_;
};

TEST(ViewerInstance, NobodyListens) {
  const TempDir dir;
  EXPECT_FALSE(tell_instance(dir / "socket", {"next"}).has_value());
  EXPECT_FALSE(tell_instance("", {"next"}).has_value());
}

TEST(ViewerInstance, LinesArriveInOrderAndRefusalsComeBack) {
  const TempDir dir;
  const std::filesystem::path socket = dir / "socket";
  {
    Answering viewer(socket);
    ASSERT_TRUE(viewer.instance.listens());
    const auto told = tell_instance(socket, {"open a", "go b c=3"});
    ASSERT_TRUE(told.has_value());
    EXPECT_TRUE(told->ok());
    const auto refused = tell_instance(socket, {"next", "bad", "never"});
    ASSERT_TRUE(refused.has_value());
    ASSERT_FALSE(refused->ok());
    EXPECT_NE(refused->error().line().find("bad: is refused"), std::string::npos);
    EXPECT_TRUE(tell_instance(socket, {std::string(300000, 'x')})->ok());
    EXPECT_TRUE(tell_instance(socket, {"two\nlines"})->ok());
    EXPECT_TRUE(viewer.said.starts_with("open a|go b c=3|next|xxx"));
    EXPECT_TRUE(viewer.said.ends_with("x|two lines|"));
    // A second viewer leaves the first alone.
    Instance second(socket, [] {});
    EXPECT_FALSE(second.listens());
  }
  EXPECT_FALSE(std::filesystem::exists(socket));
}

TEST(ViewerInstance, ASocketOfAViewerThatIsGoneIsTakenOver) {
  const TempDir dir;
  const std::filesystem::path socket = dir / "socket";
  {
    std::FILE* file = std::fopen(socket.c_str(), "w");
    ASSERT_NE(file, nullptr);
    std::fclose(file);
  }
  const Answering viewer(socket);
  EXPECT_TRUE(viewer.instance.listens());
  EXPECT_TRUE(tell_instance(socket, {"next"})->ok());
}

TEST(ViewerInstance, TheFolderIsTheUsersAlone) {
  const std::filesystem::path socket = instance_socket();
  if (socket.empty()) GTEST_SKIP() << "no folder for it here";
  struct stat s{};
  ASSERT_EQ(::stat(socket.parent_path().c_str(), &s), 0);
  EXPECT_EQ(s.st_uid, ::getuid());
  EXPECT_EQ(s.st_mode & 0077u, 0u);
}

}  // namespace
}  // namespace ps::viewer
