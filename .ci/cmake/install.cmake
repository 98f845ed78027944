# cmake --install: a tree that may be moved as a whole. bin/parscope finds lib/parscope beside itself, and LibTorch by
# PARSCOPE_TORCH, in lib/parscope/torch, or where python3 has it (core/torch_places.cpp).
include(CMakePackageConfigHelpers)
set(CMAKE_INSTALL_MESSAGE LAZY)

add_custom_target(installed DEPENDS parscope) # all that a release needs
install(TARGETS parscope RUNTIME DESTINATION bin)
if(TARGET parscope_reference)
  add_dependencies(installed parscope_reference)
  set_target_properties(parscope_reference PROPERTIES INSTALL_RPATH "$ORIGIN/torch/lib")
  install(TARGETS parscope_reference LIBRARY DESTINATION lib/parscope)
endif()
if(TARGET parscope_gloo)
  add_dependencies(installed parscope_gloo)
  install(TARGETS parscope_gloo LIBRARY DESTINATION lib/parscope)
endif()
if(TARGET parscope-viewer)
  add_dependencies(installed parscope-viewer)
  install(TARGETS parscope-viewer RUNTIME DESTINATION bin)
endif()
install(DIRECTORY docs/schema DESTINATION share/parscope)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION share/doc/parscope)
install(DIRECTORY docs/ DESTINATION share/doc/parscope/docs PATTERN schema EXCLUDE)
install(CODE [[
  set(prefix "$ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}")
  foreach(pair bash:bash-completion/completions/parscope zsh:zsh/site-functions/_parscope
               fish:fish/vendor_completions.d/parscope.fish)
    string(REPLACE ":" ";" pair "${pair}")
    list(GET pair 0 shell)
    list(GET pair 1 path)
    get_filename_component(folder "${prefix}/share/${path}" DIRECTORY)
    file(MAKE_DIRECTORY "${folder}")
    execute_process(COMMAND "${prefix}/bin/parscope" completions ${shell} OUTPUT_FILE "${prefix}/share/${path}" COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
]])

# find_package(parscope): GoogleTest helpers that run the installed program.
install(FILES tests/package/parscope/gtest.h DESTINATION include/parscope)
configure_package_config_file(tests/package/parscopeConfig.cmake.in ${PROJECT_BINARY_DIR}/parscopeConfig.cmake
  INSTALL_DESTINATION lib/cmake/parscope)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/parscopeConfigVersion.cmake VERSION ${PROJECT_VERSION}
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/parscopeConfig.cmake ${PROJECT_BINARY_DIR}/parscopeConfigVersion.cmake
  DESTINATION lib/cmake/parscope)

if(NOT PARSCOPE_SANITIZE)
  add_test(NAME package.release COMMAND ${PROJECT_SOURCE_DIR}/tests/package/check ${CMAKE_COMMAND} ${PROJECT_BINARY_DIR})
  set_tests_properties(package.release PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
  add_test(NAME docs.commands COMMAND python3 ${PROJECT_SOURCE_DIR}/tests/docs/run_commands.py ${PROJECT_BINARY_DIR})
  set_tests_properties(docs.commands PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
endif()
