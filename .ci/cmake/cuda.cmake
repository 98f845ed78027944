# ps_model_cuda: the kernels compiled by nvcc, where there is one.
if(PARSCOPE_CUDA STREQUAL OFF)
  message(STATUS "PARSCOPE_CUDA is OFF: the CUDA objects are not built")
  return()
endif()
set(toolkit $ENV{CUDA_HOME})
if(NOT toolkit)
  set(toolkit /usr/local/cuda)
endif()
find_program(PARSCOPE_NVCC nvcc HINTS ${toolkit}/bin)
if(NOT PARSCOPE_NVCC)
  ps_does_without(PARSCOPE_CUDA "no nvcc in PATH or ${toolkit}/bin" "everything but the CUDA objects is built")
  return()
endif()

set(CMAKE_CUDA_COMPILER ${PARSCOPE_NVCC})
set(CMAKE_CUDA_ARCHITECTURES ${PARSCOPE_CUDA_ARCHS})
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O2 -lineinfo")
enable_language(CUDA)
message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${PARSCOPE_CUDA_ARCHS}")

# Each half calls the other. Programs need no CUDA library but the static runtime: cuBLASLt is opened when the first
# GPU engine is, so that a program with CUDA starts where there is none.
find_package(CUDAToolkit REQUIRED)
add_library(ps_model_cuda STATIC ${cuda_sources})
ps_own(ps_model_cuda)
target_compile_definitions(ps_model PRIVATE PS_WITH_CUDA=1)
target_link_libraries(ps_model PRIVATE ps_model_cuda)
target_link_libraries(ps_model_cuda PUBLIC ps_core PRIVATE ps_model CUDA::cudart_static)
set_target_properties(ps_model_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static CUDA_RESOLVE_DEVICE_SYMBOLS OFF)
target_compile_options(ps_model_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fPIC,-ffp-contract=off,-Wall,-Wextra>
  # Device and host then compute the same bits for + - * / and sqrt.
  $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false>
  # A kernel that spills or has a stack frame does not compile.
  $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=--warn-on-spills,--warn-on-local-memory-usage,--warning-as-error>
  $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${PARSCOPE_WERROR}>>:-Werror=all-warnings>)
