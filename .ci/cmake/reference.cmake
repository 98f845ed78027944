# parscope_reference: the only target that sees LibTorch. A module that parscope opens on first use with local symbols.
# find_package(Torch) wants the CUDA toolkit and sets flags for everybody; two imported libraries are all we need.
set(torch ${PARSCOPE_LIBTORCH_DIR})
foreach(name torch_cpu c10)
  if(NOT EXISTS ${torch}/lib/lib${name}.so)
    message(FATAL_ERROR "PARSCOPE_LIBTORCH_DIR=${torch} has no lib/lib${name}.so")
  endif()
  add_library(ps_${name} SHARED IMPORTED)
  set_target_properties(ps_${name} PROPERTIES IMPORTED_LOCATION ${torch}/lib/lib${name}.so)
  target_include_directories(ps_${name} SYSTEM INTERFACE ${torch}/include ${torch}/include/torch/csrc/api/include)
endforeach()

# Where libtorch_cpu.so's own needs are found when they are not beside it (./dev puts them there).
set(rpath ${torch}/lib ${PARSCOPE_CUDART_DIRS})
if(NOT EXISTS ${torch}/lib/libcudart.so.13)
  foreach(dir ${torch}/../nvidia/cu13/lib $ENV{CUDA_HOME}/lib64 /usr/local/cuda/lib64)
    if(EXISTS ${dir}/libcudart.so.13)
      list(APPEND rpath ${dir})
    endif()
  endforeach()
endif()

add_library(parscope_reference MODULE ${reference_sources})
ps_own(parscope_reference)
target_link_libraries(parscope_reference PRIVATE ps_core ps_torch_cpu ps_c10)
# RPATH, not RUNPATH: it must also serve the libraries that LibTorch opens in turn.
target_link_options(parscope_reference PRIVATE -Wl,--disable-new-dtags -Wl,--exclude-libs,ALL)
set_target_properties(parscope_reference PROPERTIES BUILD_RPATH "${rpath}")
if(PARSCOPE_SANITIZE)
  target_compile_options(parscope_reference PRIVATE -fno-sanitize=vptr) # LibTorch hides the type information this asks for
else()
  target_link_options(parscope_reference PRIVATE -Wl,-z,defs)
endif()

if(EXISTS ${PROJECT_SOURCE_DIR}/reference/torch.h)
  target_precompile_headers(parscope_reference PRIVATE reference/torch.h)
endif()
