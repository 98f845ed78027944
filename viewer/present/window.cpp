#include "viewer/present/window.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <imgui.h>
#include <imgui_impl_glfw.h>
#include <imgui_impl_opengl3.h>

#define GL_GLEXT_PROTOTYPES 0
#include <GLFW/glfw3.h>

#include "viewer/app/commands.h"
#include "viewer/present/instance.h"

namespace ps::viewer {

namespace {

// OpenGL's functions beside those of 1.1 that this file needs; asked for by name, so that nothing
// links a GL library.
struct Gl {
  void (*get_integer)(GLenum, GLint*) = nullptr;
  const GLubyte* (*get_string)(GLenum) = nullptr;
  void (*viewport)(GLint, GLint, GLsizei, GLsizei) = nullptr;
  void (*clear_color)(GLfloat, GLfloat, GLfloat, GLfloat) = nullptr;
  void (*clear)(GLbitfield) = nullptr;
  void (*gen_textures)(GLsizei, GLuint*) = nullptr;
  void (*bind_texture)(GLenum, GLuint) = nullptr;
  void (*tex_image)(GLenum, GLint, GLint, GLsizei, GLsizei, GLint, GLenum, GLenum,
                    const void*) = nullptr;
  void (*tex_sub_image)(GLenum, GLint, GLint, GLint, GLsizei, GLsizei, GLenum, GLenum,
                        const void*) = nullptr;
  void (*pixel_store)(GLenum, GLint) = nullptr;
  void (*read_buffer)(GLenum) = nullptr;
  void (*read_pixels)(GLint, GLint, GLsizei, GLsizei, GLenum, GLenum, void*) = nullptr;
  void (*gen_framebuffers)(GLsizei, GLuint*) = nullptr;
  void (*bind_framebuffer)(GLenum, GLuint) = nullptr;
  void (*framebuffer_texture)(GLenum, GLenum, GLenum, GLuint, GLint) = nullptr;
  void (*blit_framebuffer)(GLint, GLint, GLint, GLint, GLint, GLint, GLint, GLint, GLbitfield,
                           GLenum) = nullptr;

  bool load() {
    bool all = true;
    const auto get = [&](auto& function, const char* name) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(glfwGetProcAddress(name));
      all = all && function != nullptr;
    };
    get(get_integer, "glGetIntegerv");
    get(get_string, "glGetString");
    get(viewport, "glViewport");
    get(clear_color, "glClearColor");
    get(clear, "glClear");
    get(gen_textures, "glGenTextures");
    get(bind_texture, "glBindTexture");
    get(tex_image, "glTexImage2D");
    get(tex_sub_image, "glTexSubImage2D");
    get(pixel_store, "glPixelStorei");
    get(read_buffer, "glReadBuffer");
    get(read_pixels, "glReadPixels");
    get(gen_framebuffers, "glGenFramebuffers");
    get(bind_framebuffer, "glBindFramebuffer");
    get(framebuffer_texture, "glFramebufferTexture2D");
    get(blit_framebuffer, "glBlitFramebuffer");
    return all;
  }
};

constexpr GLenum kReadFramebuffer = 0x8CA8, kDrawFramebuffer = 0x8CA9, kColorAttachment = 0x8CE0,
                 kBgra = 0x80E1;

template <class F>
auto* row(F& frame, int y) {
  return frame.pixels.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(frame.width);
}

// Shows a Frame in the window. Software OpenGL shades every pixel of a blit that changes colours'
// order, and only copies one that does not: the texture has the order of windows, blue first.
class Blitter {
 public:
  explicit Blitter(const Gl& gl) : gl_(gl) {}
  void show(const Frame& frame) {
    if (texture_ == 0) {
      gl_.gen_textures(1, &texture_);
      gl_.gen_framebuffers(1, &framebuffer_);
    }
    gl_.bind_texture(GL_TEXTURE_2D, texture_);
    gl_.pixel_store(GL_UNPACK_ALIGNMENT, 4);
    const bool anew = frame.width != shown_.width || frame.height != shown_.height;
    if (anew) shown_.resize(frame.width, frame.height);
    const auto [first, last] = take(frame, anew);
    if (anew) {
      // Not GL_RGBA8: Mesa gives that a texture with red first.
      gl_.tex_image(GL_TEXTURE_2D, 0, GL_RGBA, frame.width, frame.height, 0, kBgra,
                    GL_UNSIGNED_BYTE, shown_.pixels.data());
    } else if (first < last) {
      gl_.tex_sub_image(GL_TEXTURE_2D, 0, 0, first, frame.width, last - first, kBgra,
                        GL_UNSIGNED_BYTE, row(shown_, first));
    }
    gl_.bind_framebuffer(kReadFramebuffer, framebuffer_);
    gl_.framebuffer_texture(kReadFramebuffer, kColorAttachment, GL_TEXTURE_2D, texture_, 0);
    gl_.bind_framebuffer(kDrawFramebuffer, 0);
    gl_.blit_framebuffer(0, 0, frame.width, frame.height, 0, frame.height, frame.width, 0,
                         GL_COLOR_BUFFER_BIT, GL_NEAREST);
    gl_.bind_framebuffer(kReadFramebuffer, 0);
  }

 private:
  // Into shown_, blue first; which rows changed: [first, last).
  std::pair<int, int> take(const Frame& frame, bool all) {
    int first = frame.height, last = 0;
    const auto width = static_cast<std::size_t>(frame.width);
    for (int y = 0; y < frame.height; ++y) {
      const std::uint32_t* from = row(frame, y);
      std::uint32_t* to = row(shown_, y);
      std::uint32_t changed = all ? 1 : 0;
      for (std::size_t x = 0; x < width; ++x) {
        const std::uint32_t p = from[x];
        const std::uint32_t turned = (p & 0xff00ff00u) | (p >> 16 & 0xff) | (p & 0xff) << 16;
        changed |= turned ^ to[x];
        to[x] = turned;
      }
      if (changed == 0) continue;
      first = std::min(first, y);
      last = y + 1;
    }
    return {first, last};
  }

  const Gl& gl_;
  GLuint texture_ = 0, framebuffer_ = 0;
  Frame shown_;
};

bool is_software(const Gl& gl) {
  const GLubyte* name = gl.get_string(GL_RENDERER);
  const std::string_view renderer = name == nullptr ? "" : reinterpret_cast<const char*>(name);
  for (const std::string_view software : {"llvmpipe", "softpipe", "swrast", "SWR"}) {
    if (renderer.find(software) != std::string_view::npos) return true;
  }
  return false;
}

Frame read_back(const Gl& gl, int width, int height) {
  Frame upside_down, frame;
  upside_down.resize(width, height);
  frame.resize(width, height);
  gl.bind_framebuffer(kReadFramebuffer, 0);
  gl.read_buffer(GL_BACK);
  gl.pixel_store(GL_PACK_ALIGNMENT, 4);
  gl.read_pixels(0, 0, width, height, GL_RGBA, GL_UNSIGNED_BYTE, upside_down.pixels.data());
  const auto row = static_cast<std::size_t>(width);
  for (int y = 0; y < height; ++y) {
    const auto from = static_cast<std::size_t>(height - 1 - y) * row;
    std::copy_n(
        upside_down.pixels.begin() + static_cast<std::ptrdiff_t>(from), row,
        frame.pixels.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(y) * row));
  }
  return frame;
}

std::string& glfw_error() {
  static std::string text;
  return text;
}

struct Glfw {
  GLFWwindow* window = nullptr;
  ~Glfw() {
    if (window != nullptr) glfwDestroyWindow(window);
    glfwTerminate();
  }
};

void on_drop(GLFWwindow* window, int count, const char** paths) {
  open_dropped(*static_cast<App*>(glfwGetWindowUserPointer(window)),
               std::vector<std::string>(paths, paths + count));
}

std::string title_of(const App& app) {
  return app.session.empty() ? "parscope" : app.session.title() + " - parscope";
}

}  // namespace

Result<void> run_window(App& app, Stage& stage, const WindowOptions& options) {
  glfwSetErrorCallback([](int, const char* text) { glfw_error() = text; });
  Glfw glfw;
  if (glfwInit() == GLFW_FALSE) {
    return machine_error("parscope view", "no window can be opened here (" + glfw_error() +
                                              "); --screenshot FILE.png needs none");
  }
  glfwWindowHint(GLFW_CONTEXT_VERSION_MAJOR, 3);
  glfwWindowHint(GLFW_CONTEXT_VERSION_MINOR, 3);
  glfwWindowHint(GLFW_OPENGL_PROFILE, GLFW_OPENGL_CORE_PROFILE);
  std::string title = title_of(app);
  glfw.window =
      glfwCreateWindow(options.size.width, options.size.height, title.c_str(), nullptr, nullptr);
  if (glfw.window == nullptr) {
    return machine_error("parscope view", "no OpenGL 3.3 window can be opened here (" +
                                              glfw_error() + "); --screenshot FILE.png needs none");
  }
  glfwMakeContextCurrent(glfw.window);
  glfwSwapInterval(1);
  Gl gl;
  if (!gl.load()) return machine_error("parscope view", "OpenGL 3 lacks functions it must have");
  glfwSetWindowUserPointer(glfw.window, &app);
  glfwSetDropCallback(glfw.window, on_drop);
  ImGui_ImplGlfw_InitForOpenGL(glfw.window, true);
  const bool by_cpu = is_software(gl) && !options.always_gl;
  if (!by_cpu) ImGui_ImplOpenGL3_Init("#version 330");
  app.jobs.on_done([] { glfwPostEmptyEvent(); });

  Instance instance(instance_socket(), [] { glfwPostEmptyEvent(); });
  Blitter blitter(gl);
  Frame frame;
  long shown = 0;
  int width = 0, height = 0;
  while (glfwWindowShouldClose(glfw.window) == GLFW_FALSE) {
    // Nothing moves by itself: without events there are no frames and no CPU is used.
    if (stage.shell().wants_frame() || options.frames > 0) {
      glfwPollEvents();
    } else {
      glfwWaitEvents();
    }
    const bool told = instance.answer([&](const std::vector<std::string>& lines) -> Result<void> {
      for (const std::string& line : lines) PS_TRY_VOID(app.execute(line));
      return {};
    });
    if (told) glfwRequestWindowAttention(glfw.window);
    if (options.before_frame) options.before_frame(shown);
    if (const std::string now = title_of(app); now != title) {
      title = now;
      glfwSetWindowTitle(glfw.window, title.c_str());
    }
    if (!by_cpu) ImGui_ImplOpenGL3_NewFrame();
    ImGui_ImplGlfw_NewFrame();
    stage.frame();
    glfwGetFramebufferSize(glfw.window, &width, &height);
    if (width > 0 && height > 0) {
      if (by_cpu) {
        accept_textures(*ImGui::GetDrawData());
        frame.resize(width, height);
        rasterise(*ImGui::GetDrawData(), frame, kBackground);
        blitter.show(frame);
      } else {
        gl.viewport(0, 0, width, height);
        gl.clear_color(0.063f, 0.075f, 0.086f, 1);
        gl.clear(GL_COLOR_BUFFER_BIT);
        ImGui_ImplOpenGL3_RenderDrawData(ImGui::GetDrawData());
      }
    }
    ++shown;
    const bool last = options.frames > 0 && shown >= options.frames;
    if (last && !options.picture.empty()) {
      PS_TRY_VOID(write_picture(read_back(gl, width, height), options.picture));
    }
    if (const std::string file = std::exchange(app.requests.picture, ""); !file.empty()) {
      const Result<void> done = write_picture(drawn(width, height), file);
      app.say(done.ok() ? "wrote " + file : done.error().line(),
              done.ok() ? LogLine::Kind::kAnswer : LogLine::Kind::kError);
    }
    glfwSwapBuffers(glfw.window);
    if (app.requests.quit || last) break;
  }
  app.jobs.on_done(nullptr);
  app.jobs.wait_all();
  stage.shell().save_layout();
  if (!by_cpu) ImGui_ImplOpenGL3_Shutdown();
  ImGui_ImplGlfw_Shutdown();
  return {};
}

}  // namespace ps::viewer
