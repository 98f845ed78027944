#include "core/result.h"

#include <cstdio>
#include <cstdlib>

namespace ps {

namespace {
void append_clean(std::string& out, const std::string& text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == '\n' || byte == '\t') {
      out += ' ';
    } else if (byte < 0x20 || byte == 0x7f) {
      out += '?';
    } else {
      out += c;
    }
  }
}
}  // namespace

std::string Error::line() const {
  std::string out;
  if (!where.empty()) {
    append_clean(out, where);
    out += ": ";
  }
  append_clean(out, what);
  if (!expected.empty()) {
    out += ": expected ";
    append_clean(out, expected);
  }
  if (!found.empty()) {
    out += expected.empty() ? ": found " : ", found ";
    append_clean(out, found);
  }
  return out;
}

Error bad_input(std::string where, std::string what, std::string expected, std::string found) {
  return {Error::Kind::kInput, std::move(what), std::move(where), std::move(expected),
          std::move(found)};
}

Error machine_error(std::string where, std::string what, std::string expected, std::string found) {
  return {Error::Kind::kMachine, std::move(what), std::move(where), std::move(expected),
          std::move(found)};
}

void check_failed(const char* condition, const char* file, int line, const std::string& details) {
  std::fprintf(stderr, "parscope: internal error at %s:%d: %s is false (%s)\n", file, line,
               condition, details.c_str());
  std::exit(3);
}

}  // namespace ps
