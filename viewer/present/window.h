// A window: GLFW and OpenGL 3. Where OpenGL is software (no GPU), the CPU rasteriser draws and the
// window only shows the result, which is several times faster. Sleeps until something happens.
#pragma once

#include <functional>
#include <string>

#include "core/result.h"
#include "viewer/present/stage.h"

namespace ps::viewer {

struct WindowOptions {
  Size size;
  long frames = 0;                         // close after that many; 0: when the user does
  std::string picture;                     // with `frames`: the last one, read back from the window
  bool always_gl = false;                  // draw by OpenGL also where it is software
  std::function<void(long)> before_frame;  // measurements: told how many frames were shown
};

Result<void> run_window(App& app, Stage& stage, const WindowOptions& options);

}  // namespace ps::viewer
