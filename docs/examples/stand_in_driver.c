/* A libcuda.so.1 that stands in for NVIDIA's, to show what `parscope doctor` says on machines that are not here:
 *   cc -shared -fPIC -o libcuda.so.1 stand_in_driver.c
 *   LD_LIBRARY_PATH=. STAND_IN_SM=90 parscope doctor
 * STAND_IN_SM is the card's architecture (90), STAND_IN_CUDA the driver's version (13020), STAND_IN_INIT what cuInit returns (0). As
 * NVIDIA's does, it knows no device where CUDA_VISIBLE_DEVICES is there and empty, or begins with -1. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static int given(const char* name, int otherwise) {
  const char* text = getenv(name);
  return text ? atoi(text) : otherwise;
}

int cuInit(unsigned flags) {
  const char* visible = getenv("CUDA_VISIBLE_DEVICES");
  (void)flags;
  return visible && (!*visible || atoi(visible) < 0) ? 100 : given("STAND_IN_INIT", 0);
}
int cuDriverGetVersion(int* version) {
  *version = given("STAND_IN_CUDA", 13020);
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = 2;
  return 0;
}
int cuDeviceGetName(char* text, int size, int device) {
  snprintf(text, size, "Card %d", device);
  return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  (void)device;
  if (attribute != 75 && attribute != 76) return 1;
  *value = attribute == 75 ? given("STAND_IN_SM", 90) / 10 : given("STAND_IN_SM", 90) % 10;
  return 0;
}
int cuDeviceTotalMem_v2(size_t* bytes, int device) {
  (void)device;
  *bytes = (size_t)139 << 30;
  return 0;
}
