// Where the sources and the programs of this build are. Defined in one file, so that no other
// object depends on the place of a checkout and a compiler cache serves them all.
#pragma once

#include <string>

namespace ps {

std::string source_dir();
std::string binary_dir();

}  // namespace ps
