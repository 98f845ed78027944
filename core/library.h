// Libraries of ours that are opened on first use, so that a program without need of them starts in
// milliseconds and their symbols stay their own.
#pragma once

#include <string>

#include "core/result.h"

namespace ps {

struct OwnLibrary {
  const char* file;      // "libparscope_reference.so"
  const char* variable;  // of the environment: where it is instead
  const char* what;      // "the reference"
  const char* remedy;    // what to do where it is not there
};

// Beside the program, in ../lib/parscope, or where the variable says. Open until the program ends.
Result<void*> open_library(const OwnLibrary& library);
Result<void*> symbol_of(void* opened, const OwnLibrary& library, const char* name);

}  // namespace ps
