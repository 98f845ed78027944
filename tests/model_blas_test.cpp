// The host BLAS is the candidate's own: no other library in the process may be served by it.
// libtorch_cpu.so exports sgemm_ itself, and the dynamic linker would let one stand in for the
// other.
#include <dlfcn.h>
#include <string>

#include <gtest/gtest.h>

#include "model/gemm/gemm_host.h"

extern "C" int blas_num_threads;  // OpenBLAS: as many as it has made ready, with the caller's

namespace ps {
namespace {

TEST(HostBlas, IsLinkedAndHidden) {
  EXPECT_NE(std::string(host_blas()).find("OpenBLAS"), std::string::npos);
  for (const char* name :
       {"sgemm_", "sgemv_", "cblas_sgemm", "dgemm_", "openblas_set_num_threads"}) {
    EXPECT_EQ(dlsym(RTLD_DEFAULT, name), nullptr) << name << " is visible to other libraries";
  }
}

TEST(HostBlas, StartsNoThreadsOfItsOwn) {
  EXPECT_NE(host_blas(), nullptr);
  EXPECT_EQ(blas_num_threads, 1);
}

}  // namespace
}  // namespace ps
