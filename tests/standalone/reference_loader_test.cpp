// A program of its own: the reference is opened once, and here it must not be.
#include <stdlib.h>
#include <string>

#include <gtest/gtest.h>

#include "core/engine.h"
#include "tests/support/temp_dir.h"

namespace ps {
namespace {

Error error_with(const std::string& library) {
  ::setenv("PARSCOPE_REFERENCE", library.c_str(), 1);
  const Result<std::unique_ptr<Reference>> reference = open_reference({}, {});
  return reference.ok() ? Error{} : reference.error();
}

TEST(ReferenceLoader, MissingLibraryIsTheMachinesFaultAndSaysWhatToDo) {
  const TempDir dir;
  const Error error = error_with((dir / "absent.so").string());
  EXPECT_EQ(error.kind, Error::Kind::kMachine);
  EXPECT_NE(error.line().find("absent.so"), std::string::npos) << error.line();
  EXPECT_NE(error.line().find("run ./dev build"), std::string::npos) << error.line();
}

TEST(ReferenceLoader, FileThatIsNoLibraryIsTheMachinesFault) {
  const TempDir dir;
  put_file(dir / "text.so", "no library");
  const Error error = error_with((dir / "text.so").string());
  EXPECT_EQ(error.kind, Error::Kind::kMachine);
  EXPECT_NE(error.line().find("run ./dev build"), std::string::npos) << error.line();
}

TEST(ReferenceLoader, AnotherLibraryIsTold) {
  const Error error = error_with("libm.so.6");
  EXPECT_EQ(error.kind, Error::Kind::kMachine);
  EXPECT_NE(error.line().find("is another library"), std::string::npos) << error.line();
}

}  // namespace
}  // namespace ps
