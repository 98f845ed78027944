// libtorch_cpu.so exports sgemm_. This program exports a wrong one under the same names, as a
// program that links another BLAS would; the reference must not notice.
#include <atomic>
#include <cmath>
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "diff/run/inputs.h"
#include "tests/support/fixtures.h"
#include "tests/support/paths.h"
#include "tests/support/run.h"

namespace {
std::atomic<int> calls{0};

void spoil(float* c, const int* m, const int* n, const int* ldc) {
  ++calls;
  for (int j = 0; j < *n; ++j) {
    for (int i = 0; i < *m; ++i) c[i + static_cast<std::int64_t>(j) * *ldc] = 12345.0F;
  }
}
}  // namespace

#define PS_EXPORTED extern "C" __attribute__((visibility("default"), used))

PS_EXPORTED void sgemm_(const char*, const char*, const int* m, const int* n, const int*,
                        const float*, const float*, const int*, const float*, const int*,
                        const float*, float* c, const int* ldc) {
  spoil(c, m, n, ldc);
}
PS_EXPORTED void sgemv_(const char*, const int*, const int*, const float*, const float*, const int*,
                        const float*, const int*, const float*, float*, const int*) {
  ++calls;
}

namespace ps {
namespace {

Tensor logits() {
  const Model model = value_or_die(open_model(fixtures_dir() / "models" / "parscale-bytes"));
  KeepAll points;
  ok_or_die(
      make_reference(model, DType::kF32)->forward(random_inputs(2, 33, 1, model.config), points));
  return points.at("lm_head");
}

TEST(BlasIsolation, TheWrongOneIsTheProgramsOwn) {
  EXPECT_EQ(dlsym(RTLD_DEFAULT, "sgemm_"), reinterpret_cast<void*>(&sgemm_));
}

// The control: without RTLD_DEEPBIND the reference would be served by the wrong one. It comes
// first, since a child of a process whose LibTorch has started its threads would hang.
TEST(BlasIsolation, WithoutDeepBindTheWrongOneWouldServe) {
#ifdef PS_NO_DEEPBIND
  GTEST_SKIP() << "AddressSanitizer does not allow RTLD_DEEPBIND";
#endif
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (dlopen((binary_dir() + "/libparscope_reference.so").c_str(), RTLD_NOW | RTLD_LOCAL) ==
        nullptr)
      _exit(3);
    calls = 0;
    (void)logits();
    _exit(calls > 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0)
      << "this control no longer shows anything: find what LibTorch calls now";
}

TEST(BlasIsolation, AWrongSgemmLeavesTheReferenceUnmoved) {
#ifdef PS_NO_DEEPBIND
  GTEST_SKIP() << "AddressSanitizer does not allow RTLD_DEEPBIND";
#endif
  calls = 0;
  const Tensor t = logits();
  EXPECT_EQ(calls, 0);
  for (std::int64_t i = 0; i < t.view().count(); ++i) {
    ASSERT_LT(std::fabs(value_at(t.view(), i)), 1000.0);
  }
}

}  // namespace
}  // namespace ps
