// Libraries of ours that are opened on first use, so that a program without need of them starts in
// milliseconds and their symbols stay their own.
#pragma once

#include <filesystem>
#include <string>

#include "core/result.h"

namespace ps {

struct OwnLibrary {
  const char* file;      // "libparscope_reference.so"
  const char* variable;  // of the environment: where it is instead
  const char* what;      // "the reference"
  const char* remedy;    // what to do where it is not there
};

// The file of the program that runs; empty where the system does not say.
std::filesystem::path this_program();
// Where the variable says, else beside the program, else in ../lib/parscope.
Result<std::filesystem::path> find_library(const OwnLibrary& library);
// For dlopen: the symbols stay the library's own (RTLD_LOCAL) and its own come first.
int own_symbols();
Result<void*> open_library(const OwnLibrary& library);  // open until the program ends
// `where`: the library, for the message.
Result<void*> symbol_of(void* opened, const std::string& where, const char* name);

}  // namespace ps
