# tests/*_test.cpp are one program, tests/standalone/*_test.cpp a program each; fuzzers, benchmarks, compile-fail cases.
find_package(GTest REQUIRED)
include(GoogleTest)

ps_glob(support tests/support/*.cpp)
set(paths ${PROJECT_SOURCE_DIR}/tests/support/paths.cpp)
set_source_files_properties(${paths} PROPERTIES COMPILE_DEFINITIONS
  "PS_SOURCE_DIR=\"${PROJECT_SOURCE_DIR}\";PS_BINARY_DIR=\"${PROJECT_BINARY_DIR}\"")
set(gtest_main GTest::gtest_main)
if(EXISTS ${PROJECT_SOURCE_DIR}/tests/main.cpp)
  list(APPEND support ${PROJECT_SOURCE_DIR}/tests/main.cpp)
  set(gtest_main "")
endif()

function(ps_test_program target sources)
  add_executable(${target} ${sources})
  ps_own(${target})
  target_link_libraries(${target} PRIVATE ps_diff ps_model ps_core nlohmann_json::nlohmann_json ${CMAKE_DL_LIBS})
endfunction()

function(ps_gtest target sources)
  ps_test_program(${target} "${sources};${support}")
  ps_opens_reference(${target})
  if(TARGET parscope) # tests run it
    add_dependencies(${target} parscope)
  endif()
  target_link_libraries(${target} PRIVATE GTest::gtest ${gtest_main})
  gtest_discover_tests(${target} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600 ${ARGN})
endfunction()

ps_glob(test_sources tests/*_test.cpp)
if(test_sources)
  ps_gtest(parscope_tests "${test_sources}")
  target_precompile_headers(parscope_tests PRIVATE <gtest/gtest.h>)
endif()
if(TARGET ps_model_cuda) # the mutants link the model by hand
  get_target_property(cudart_static CUDA::cudart_static IMPORTED_LOCATION)
  set_source_files_properties(tests/model_mutants_test.cpp PROPERTIES COMPILE_DEFINITIONS
    "PS_MODEL_CUDA_LINK=\" $<TARGET_FILE:ps_model_cuda> ${cudart_static} -ldl -lrt -lpthread\"")
endif()
ps_glob(standalone tests/standalone/*_test.cpp)
foreach(source IN LISTS standalone)
  get_filename_component(name ${source} NAME_WE)
  ps_gtest(${name} ${source} TEST_PREFIX ${name}.)
  set_target_properties(${name} PROPERTIES ENABLE_EXPORTS ON) # some plant symbols for shared libraries to find
endforeach()

# A program that works on copies of a library's data would not share it with the reference (rules.cmake).
find_program(READELF readelf)
if(READELF AND NOT PARSCOPE_SANITIZE)
  foreach(target parscope parscope_tests)
    if(TARGET ${target})
      add_test(NAME no_copy_relocations.${target} COMMAND ${READELF} -rW $<TARGET_FILE:${target}>)
      set_tests_properties(no_copy_relocations.${target} PROPERTIES FAIL_REGULAR_EXPRESSION "R_[A-Z0-9_]*_COPY")
    endif()
  endforeach()
endif()

# tests/compile_fail/*.cpp: compiles as it is, and does not with -DPS_SHOULD_FAIL.
ps_glob(compile_fail tests/compile_fail/*.cpp)
foreach(source IN LISTS compile_fail)
  get_filename_component(name ${source} NAME_WE)
  set(compile ${CMAKE_CXX_COMPILER} -std=c++20 -fsyntax-only -I${PROJECT_SOURCE_DIR} ${source})
  add_test(NAME compile_fail.${name}.good COMMAND ${compile})
  add_test(NAME compile_fail.${name}.bad COMMAND ${compile} -DPS_SHOULD_FAIL)
  set_tests_properties(compile_fail.${name}.bad PROPERTIES WILL_FAIL ON)
endforeach()

# tests/foreign/test_*.py: other people's engines, in an environment that ./dev makes in the cache when such a test runs.
if(TARGET parscope AND TARGET parscope_reference AND NOT PARSCOPE_SANITIZE)
  add_test(NAME foreign.environment COMMAND ${PROJECT_SOURCE_DIR}/dev foreign)
  set_tests_properties(foreign.environment PROPERTIES FIXTURES_SETUP foreign SKIP_RETURN_CODE 77 TIMEOUT 1500)
  ps_glob(foreign_tests tests/foreign/test_*.py)
  foreach(source IN LISTS foreign_tests)
    get_filename_component(name ${source} NAME_WE)
    string(REPLACE test_ "" name ${name})
    add_test(NAME foreign.${name} COMMAND ${PROJECT_SOURCE_DIR}/dev foreign -m pytest -q -p no:cacheprovider ${source})
    set_tests_properties(foreign.${name} PROPERTIES FIXTURES_REQUIRED foreign SKIP_RETURN_CODE 77 TIMEOUT 900
      ENVIRONMENT "PARSCOPE=$<TARGET_FILE:parscope>")
  endforeach()
endif()

# tests/fuzz/fuzz_*.cpp: libFuzzer programs in the fuzz preset; elsewhere they replay their corpus as a test.
ps_glob(fuzz_sources tests/fuzz/fuzz_*.cpp)
add_custom_target(fuzzers)
foreach(source IN LISTS fuzz_sources)
  get_filename_component(name ${source} NAME_WE)
  if(PARSCOPE_FUZZ)
    ps_test_program(${name} ${source})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    ps_test_program(${name} "${source};tests/fuzz/replay_main.cpp")
    if(EXISTS ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
      add_test(NAME ${name}.replay COMMAND ${name} ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
    endif()
  endif()
  add_dependencies(fuzzers ${name})
endforeach()

# tests/bench/bench_*.cpp: Google Benchmark, only on request.
ps_glob(bench_sources tests/bench/bench_*.cpp)
add_custom_target(benchmarks)
if(bench_sources)
  find_package(benchmark REQUIRED)
endif()
foreach(source IN LISTS bench_sources)
  get_filename_component(name ${source} NAME_WE)
  ps_test_program(${name} "${source};${support}")
  ps_opens_reference(${name})
  target_link_libraries(${name} PRIVATE benchmark::benchmark benchmark::benchmark_main)
  set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
  add_dependencies(benchmarks ${name})
endforeach()

# ./dev soak: the same random configurations as soak_test, as many as one likes.
if(EXISTS ${PROJECT_SOURCE_DIR}/tests/soak/soak.cpp)
  ps_test_program(soak "tests/soak/soak.cpp;${support}")
  ps_opens_reference(soak)
endif()

# tests/tools/*.cpp: small programs for measurements by hand; built on request.
ps_glob(tool_sources tests/tools/*.cpp)
foreach(source IN LISTS tool_sources)
  get_filename_component(name ${source} NAME_WE)
  ps_test_program(${name} ${source})
  set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
endforeach()
