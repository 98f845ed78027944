#include "core/file.h"

#include <filesystem>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "core/temp_file.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

TEST(File, TextComesBackAndNothingElseIsLeft) {
  const TempDir dir;
  const std::string text("a\0b\n\xff", 5);
  ASSERT_TRUE(write_text(dir / "note.txt", text).ok());
  EXPECT_EQ(*read_text(dir / "note.txt"), text);
  EXPECT_EQ(dir.names(), std::vector<std::string>{"note.txt"});
  ASSERT_TRUE(write_text(dir / "note.txt", "").ok());
  EXPECT_EQ(*read_text(dir / "note.txt"), "");
}

TEST(File, WhatCannotBeReadIsAnError) {
  const TempDir dir;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  put_file(dir / "long", "12345");
  EXPECT_FALSE(read_text(dir / "absent").ok());
  EXPECT_FALSE(read_text(dir.path()).ok());
  EXPECT_FALSE(read_text(dir / "pipe").ok());  // and does not wait for a writer
  EXPECT_FALSE(read_text(dir / "long", 4).ok());
  EXPECT_TRUE(read_text(dir / "long", 5).ok());
}

TEST(File, WritingWhereThereIsNoDirectoryIsAnError) {
  const TempDir dir;
  const Result<void> written = write_text(dir / "absent/note.txt", "x");
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().kind, Error::Kind::kInput);
  EXPECT_NE(written.error().line().find("No such file or directory"), std::string::npos);
}

TEST(File, DirectoryInTheWayIsNamed) {
  const TempDir dir;
  put_file(dir / "file", "x");
  const Result<void> made = ensure_directory(dir / "file/below/deep");
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().line().find((dir / "file").string() + " is in the way"), std::string::npos)
      << made.error().line();
  EXPECT_TRUE(ensure_directory(dir / "new/below/deep").ok());
  EXPECT_TRUE(ensure_directory(dir / "new/below/deep").ok());
  EXPECT_TRUE(std::filesystem::is_directory(dir / "new/below/deep"));
}

TEST(TempFile, WithoutCommitNothingIsLeft) {
  const TempDir dir;
  {
    Result<TempFile> file = TempFile::create(dir / "out");
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->append(std::as_bytes(std::span("data"))).ok());
    EXPECT_EQ(dir.names().size(), 1u);
    TempFile moved = std::move(file).value();
    EXPECT_EQ(dir.names().size(), 1u);
  }
  EXPECT_TRUE(dir.names().empty());
}

TEST(TempFile, NamelessFileIsInNoDirectory) {
  const TempDir dir;
  const Result<TempFile> file = TempFile::create_nameless(dir / "out");
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(dir.names().empty());
}

TEST(TempFile, PartOfAnotherFileIsCopied) {
  const TempDir dir;
  Result<TempFile> source = TempFile::create_nameless(dir / "out");
  const std::string text = "0123456789";
  ASSERT_TRUE(source->append(std::as_bytes(std::span(text))).ok());
  Result<TempFile> file = TempFile::create(dir / "out");
  ASSERT_TRUE(file->append_from(*source, 7, 3).ok());
  ASSERT_TRUE(file->append_from(*source, 0, 0).ok());
  ASSERT_TRUE(file->append_from(*source, 1, 2).ok());
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(get_file(dir / "out"), "78912");
  EXPECT_FALSE(file->append_from(*source, 9, 2).ok());  // beyond its end
}

TEST(TempFile, ExistingFileStaysWholeUntilTheNewOneIs) {
  const TempDir dir;
  put_file(dir / "out", "old");
  {
    Result<TempFile> file = TempFile::create(dir / "out");
    ASSERT_TRUE(file->append(std::as_bytes(std::span("new"))).ok());
    EXPECT_EQ(get_file(dir / "out"), "old");
  }
  EXPECT_EQ(get_file(dir / "out"), "old");
}

}  // namespace
}  // namespace ps
