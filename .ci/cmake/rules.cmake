# How our own targets are compiled, and the few functions that CMakeLists.txt is written in.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1") # no NDEBUG: checks stay on
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g")

# -fPIC also for programs. The reference is opened with RTLD_DEEPBIND, so it sees the libraries' own data; a program built
# with -fPIE would work on copies of it (std::cout, stdout).
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fPIC> $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)

if(PARSCOPE_SANITIZE)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${PARSCOPE_SANITIZE}>
                      $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=all> -fno-omit-frame-pointer)
  string(REPLACE ",fuzzer-no-link" "" link_sanitizers "${PARSCOPE_SANITIZE}")
  add_link_options(-fsanitize=${link_sanitizers})
  if(PARSCOPE_SANITIZE MATCHES address)
    add_compile_definitions(PS_NO_DEEPBIND) # ASan's runtime aborts on RTLD_DEEPBIND
  endif()
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # Precompiled headers need these two, and g++ the flag.
  add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>)
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${launcher})
endif()
# No mold: the one of Debian 12 (1.10) never ends on one of the test programs.

# Something that parscope can do without is not here; where `option` is ON that ends the build.
function(ps_does_without option missing consequence)
  if(${option} STREQUAL ON)
    message(FATAL_ERROR "${option} is ON, and ${missing}")
  endif()
  message(STATUS "${missing}: ${consequence}")
endfunction()

# Warnings, and includes from the root, for a target of ours.
function(ps_own target)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  set(warnings -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wsign-compare
      $<$<CXX_COMPILER_ID:Clang>:-Wno-sign-conversion> # g++ does not have it in -Wconversion
      $<$<BOOL:${PARSCOPE_WERROR}>:-Werror>)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${warnings}>")
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE CXX) # also where a linked library has CUDA sources
endfunction()

function(ps_glob out)
  file(GLOB found CONFIGURE_DEPENDS LIST_DIRECTORIES false ${ARGN})
  set(${out} ${found} PARENT_SCOPE)
endfunction()

# A static library; a folder without sources is a library without code, so that others can always name it.
function(ps_library target)
  if(ARGN)
    add_library(${target} STATIC ${ARGN})
    ps_own(${target})
  else()
    add_library(${target} INTERFACE)
  endif()
endfunction()

# target_link_libraries for both kinds of ps_library.
function(ps_link target)
  get_target_property(kind ${target} TYPE)
  if(kind STREQUAL INTERFACE_LIBRARY)
    list(FILTER ARGN EXCLUDE REGEX "^(PUBLIC|PRIVATE)$")
    target_link_libraries(${target} INTERFACE ${ARGN})
  else()
    target_link_libraries(${target} ${ARGN})
  endif()
endfunction()

# The target opens libparscope_reference.so beside itself, so that must be built; it is never linked.
function(ps_opens_reference target)
  if(TARGET parscope_reference)
    add_dependencies(${target} parscope_reference)
  endif()
endfunction()

# ps_check_def(DEF MACRO GLOB EXCLUDE...): every MACRO(name) in DEF has its file in GLOB, and every file its line.
# EXCLUDE: stems in that folder that are not entries. Nothing happens while DEF does not exist.
function(ps_check_def def macro glob)
  if(NOT EXISTS ${PROJECT_SOURCE_DIR}/${def})
    return()
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${def})
  file(STRINGS ${def} lines REGEX "^[ \t]*${macro}\\(")
  set(names "")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^[ \t]*${macro}\\([ \t]*([A-Za-z0-9_]+).*" "\\1" name "${line}")
    if(name IN_LIST names)
      message(FATAL_ERROR "${def}: ${macro}(${name}) stands there twice")
    endif()
    list(APPEND names ${name})
  endforeach()
  ps_glob(files ${glob})
  set(stems "")
  foreach(file IN LISTS files)
    get_filename_component(stem ${file} NAME_WE)
    list(APPEND stems ${stem})
  endforeach()
  list(REMOVE_ITEM stems ${ARGN} "")
  foreach(name IN LISTS names)
    if(NOT name IN_LIST stems)
      string(REPLACE "*" "${name}" missing ${glob})
      message(FATAL_ERROR "${def} has ${macro}(${name}), but there is no ${missing}")
    endif()
  endforeach()
  foreach(stem IN LISTS stems)
    if(NOT stem IN_LIST names)
      string(REPLACE "*" "${stem}" extra ${glob})
      message(FATAL_ERROR "${extra} is there, but ${def} has no line ${macro}(${stem})")
    endif()
  endforeach()
endfunction()

# Each op is one header, compiled twice: <build>/ops/<op>.cpp by the host compiler, <op>.cu by nvcc.
function(ps_op_wrappers folder host_out cuda_out)
  ps_glob(headers ${folder}/*.h)
  set(host ${${host_out}})
  set(cuda ${${cuda_out}})
  foreach(header IN LISTS headers)
    get_filename_component(op ${header} NAME_WE)
    if("${op}" STREQUAL "op")
      continue()
    endif()
    foreach(ext cpp cu)
      file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/ops/${op}.${ext} CONTENT "#include \"${folder}/${op}.h\"\n")
    endforeach()
    list(APPEND host ${PROJECT_BINARY_DIR}/ops/${op}.cpp)
    list(APPEND cuda ${PROJECT_BINARY_DIR}/ops/${op}.cu)
  endforeach()
  set(${host_out} ${host} PARENT_SCOPE)
  set(${cuda_out} ${cuda} PARENT_SCOPE)
endfunction()

# The texts of FOLDER/*.names in the order of presets.def, as one source file for the list OUT.
function(ps_embed_presets folder out)
  file(STRINGS ${folder}/presets.def lines REGEX "^PS_NAMES\\(")
  set(entries "")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^PS_NAMES\\(([a-z0-9_]+)\\).*" "\\1" stem "${line}")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${folder}/${stem}.names)
    file(READ ${folder}/${stem}.names text)
    string(REGEX MATCH "\nname ([^\n]+)\n" found "${text}")
    if(NOT found)
      message(FATAL_ERROR "${folder}/${stem}.names has no line: name NAME")
    endif()
    string(APPEND entries "    {\"${CMAKE_MATCH_1}\", R\"names(${text})names\"},\n")
  endforeach()
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/name_presets.cpp @ONLY CONTENT [[// Made from diff/foreign/presets.
#include "diff/foreign/names.h"

namespace ps {

std::span<const NamePreset> name_presets() {
  static constexpr NamePreset kPresets[] = {
@entries@  };
  return kPresets;
}

}  // namespace ps
]])
  set(${out} ${${out}} ${PROJECT_BINARY_DIR}/name_presets.cpp PARENT_SCOPE)
endfunction()
