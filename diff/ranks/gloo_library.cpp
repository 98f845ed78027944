// Opens libparscope_gloo.so, which is built where Debian's libgloo-dev is.
#include "core/library.h"
#include "diff/ranks/wire.h"

namespace ps {

namespace {

constexpr OwnLibrary kLibrary = {"libparscope_gloo.so", "PARSCOPE_GLOO", "the library of the ranks",
                                 "install libgloo-dev and run ./dev build"};
using Make = Wire* (*)(const WireOptions*, Error*);

}  // namespace

Result<std::unique_ptr<Wire>> open_gloo(const WireOptions& options) {
  PS_TRY(void* const opened, open_library(kLibrary));
  PS_TRY(void* const make, symbol_of(opened, kLibrary.file, "parscope_make_gloo"));
  Error error;
  Wire* made = reinterpret_cast<Make>(make)(&options, &error);
  if (made == nullptr) return error;
  return std::unique_ptr<Wire>(made);
}

}  // namespace ps
