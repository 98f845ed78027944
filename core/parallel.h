// Work that falls into independent pieces, on a few threads.
#pragma once

#include <cstdint>
#include <functional>

namespace ps {

int thread_count(int wanted);  // 0 = one a core
// Calls work(0) ... work(pieces - 1), in any order, and returns when all are done.
void parallel_for(std::int64_t pieces, int threads, const std::function<void(std::int64_t)>& work);

}  // namespace ps
