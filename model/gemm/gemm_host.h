// Runs a GemmPlan on the host's BLAS. The call is cut into pieces that depend on its shape alone
// and shared out over the pool, so the bits do not depend on the number of threads. bf16 and f16
// operands become float a piece at a time, and each result is rounded once.
#pragma once

#include "model/gemm/gemm_plan.h"
#include "model/thread_pool.h"

namespace ps {

void run_gemm_host(const GemmPlan& plan, const void* a, const void* b, const void* bias, void* c,
                   ThreadPool& pool);

// "OpenBLAS 0.3.21 ..." as the library says.
const char* host_blas();

}  // namespace ps
