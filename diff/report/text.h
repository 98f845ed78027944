// The parts of the terminal's text that report.md shows too.
#pragma once

#include <string>

#include "diff/report/report.h"
#include "diff/report/strip.h"

namespace ps {

struct Paint {
  bool on = false;
  std::string operator()(const char* code, const std::string& text) const {
    return on && !text.empty() ? std::string("\x1b[") + code + "m" + text + "\x1b[0m" : text;
  }
};

// Ops down, layers across, one letter a cell, and what the letters mean.
std::string strip_text(const Strip& strip, const TextStyle& style);

}  // namespace ps
