// numpy's .npy: header versions 1, 2 and 3, C and Fortran order, both byte orders. Total: any bytes
// give a tensor or an Error. Objects (pickles), structured and complex types are refused by name.
#pragma once

#include "diff/foreign/values.h"

namespace ps {

bool looks_like_npy(std::span<const std::byte> bytes);
// Little-endian C order is a view into `bytes`; everything else is a copy in that form.
Result<NamedTensor> parse_npy(std::string name, std::span<const std::byte> bytes,
                              const std::shared_ptr<const void>& keep, const std::string& where);

}  // namespace ps
