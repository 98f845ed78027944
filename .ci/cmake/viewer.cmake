# viewer/app and viewer/data know no window: always built, tested with everything else. The rest needs Dear ImGui and GLFW.
ps_check_def(viewer/panels.def PS_PANEL viewer/panels/*.cpp)
ps_glob(viewer_data_sources viewer/app/*.cpp viewer/data/*.cpp)
ps_library(ps_viewer_data ${viewer_data_sources})
ps_link(ps_viewer_data PUBLIC ps_diff ps_core)

set(PARSCOPE_HAS_VIEWER OFF)
if(PARSCOPE_VIEWER STREQUAL OFF)
  return()
endif()
find_package(glfw3 3.3 QUIET)
set(imgui ${PARSCOPE_IMGUI_DIR}/imgui)
if(NOT EXISTS ${imgui}/imgui.h OR NOT glfw3_FOUND)
  ps_does_without(PARSCOPE_VIEWER "no Dear ImGui (PARSCOPE_IMGUI_DIR=${PARSCOPE_IMGUI_DIR}) or no GLFW 3.3" "the viewer is not built")
  return()
endif()
set(PARSCOPE_HAS_VIEWER ON)

# Once, with the calls that the Test Engine listens to; viewer/hooks answers them in the program.
add_library(ps_imgui STATIC ${imgui}/imgui.cpp ${imgui}/imgui_draw.cpp ${imgui}/imgui_tables.cpp ${imgui}/imgui_widgets.cpp
  ${imgui}/imgui_stacklayout.cpp)
target_include_directories(ps_imgui SYSTEM PUBLIC ${imgui})
target_compile_definitions(ps_imgui PUBLIC IMGUI_ENABLE_TEST_ENGINE IMGUI_DISABLE_DEMO_WINDOWS
  IMGUI_TEST_ENGINE_ENABLE_COROUTINE_STDTHREAD_IMPL=1 IMGUI_TEST_ENGINE_ENABLE_STD_FUNCTION=1 IMGUI_TEST_ENGINE_ENABLE_CAPTURE=0)
target_compile_options(ps_imgui PRIVATE -w)

ps_glob(viewer_ui_sources viewer/ui/*.cpp viewer/panels/*.cpp viewer/present/*.cpp)
list(FILTER viewer_ui_sources EXCLUDE REGEX "/present/window\\.cpp$")
ps_library(ps_viewer_ui ${viewer_ui_sources})
ps_link(ps_viewer_ui PUBLIC ps_viewer_data ps_imgui)
# Whole rows of pixels: -O2 of GCC 12 leaves the vector units idle there.
set_source_files_properties(viewer/present/covers.cpp viewer/present/soft.cpp viewer/present/window.cpp PROPERTIES COMPILE_OPTIONS $<$<CONFIG:Release,RelWithDebInfo>:-O3>)
# Built into the program. Debian's fonts-inter and fonts-jetbrains-mono; without both of them, what comes with imgui-bundle.
find_file(PARSCOPE_FONT_TEXT Inter-Regular.otf PATHS /usr/share/fonts/opentype/inter NO_DEFAULT_PATH)
find_file(PARSCOPE_FONT_MONO JetBrainsMono-Regular.ttf PATHS /usr/share/fonts/truetype/jetbrains-mono NO_DEFAULT_PATH)
set(font_text ${PARSCOPE_FONT_TEXT})
set(font_mono ${PARSCOPE_FONT_MONO})
if(NOT font_text OR NOT font_mono)
  message(STATUS "no Inter-Regular.otf or no JetBrainsMono-Regular.ttf (fonts-inter, fonts-jetbrains-mono): the viewer gets Noto Sans")
  set(font_text ${PARSCOPE_IMGUI_DIR}/fonts/NotoSans-Regular.ttf)
  set(font_mono ${PARSCOPE_IMGUI_DIR}/fonts/NotoSansMono-Regular.ttf)
endif()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${font_text} ${font_mono})
file(SHA256 ${font_text} font_text_hash)
file(SHA256 ${font_mono} font_mono_hash)
set_source_files_properties(viewer/ui/theme.cpp PROPERTIES OBJECT_DEPENDS "${font_text};${font_mono}"
  COMPILE_DEFINITIONS "PS_FONT_TEXT=\"${font_text}\";PS_FONT_MONO=\"${font_mono}\"")

set(backends ${imgui}/backends)
add_library(ps_viewer_window STATIC viewer/present/window.cpp ${backends}/imgui_impl_glfw.cpp ${backends}/imgui_impl_opengl3.cpp)
ps_own(ps_viewer_window)
target_include_directories(ps_viewer_window SYSTEM PRIVATE ${backends})
set_source_files_properties(${backends}/imgui_impl_glfw.cpp ${backends}/imgui_impl_opengl3.cpp PROPERTIES COMPILE_OPTIONS -w)
target_link_libraries(ps_viewer_window PUBLIC ps_viewer_ui glfw ${CMAKE_DL_LIBS})

add_executable(parscope-viewer viewer/main.cpp viewer/hooks/no_test_engine.cpp)
ps_own(parscope-viewer)
target_link_libraries(parscope-viewer PRIVATE ps_viewer_window)
