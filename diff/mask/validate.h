// What makes a program sound beyond its syntax. Each function gives "" or what is expected instead.
#pragma once

#include <string>
#include <vector>

#include "diff/mask/program.h"

namespace ps::mask {

std::string pointer_part(std::string_view name);  // escaped by RFC 6901
std::string shape_text(const std::vector<std::int64_t>& shape);
// Values against the shape's product.
std::string array_problem(const Array& array);
// The array's shape against what a parameter of `kind` reads.
std::string use_problem(const Program& program, int array, ParamKind kind);

}  // namespace ps::mask
