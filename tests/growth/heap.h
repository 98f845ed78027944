// Bytes that the whole program holds on the heap, LibTorch's and OpenBLAS's too: growth.cpp
// replaces malloc and its kin. Mapped files are not the heap.
#pragma once

#include <cstdint>

namespace ps {

std::int64_t heap_now();
std::int64_t heap_peak();  // since the last call of forget_heap_peak()
void forget_heap_peak();

}  // namespace ps
