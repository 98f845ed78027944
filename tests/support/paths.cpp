#include "tests/support/paths.h"

namespace ps {

std::string source_dir() { return PS_SOURCE_DIR; }
std::string binary_dir() { return PS_BINARY_DIR; }

}  // namespace ps
