// parscope doctor: what this machine has, what is missing, and how to get it.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>
#include <unistd.h>

#include "core/library.h"
#include "core/torch_places.h"
#include "core/zstd.h"
#include "diff/cli/command.h"
#include "diff/foreign/names.h"
#include "diff/report/report.h"

namespace ps::cli {

namespace {

namespace fs = std::filesystem;

enum class State : std::uint8_t { kOk, kNote, kMissing };

struct Line {
  std::string name;
  State state = State::kOk;
  std::string found;
  std::string fix;
};

std::string shell(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "re"), ::pclose);
  std::string out;
  std::array<char, 512> part{};
  while (pipe && std::fgets(part.data(), static_cast<int>(part.size()), pipe.get()) != nullptr) {
    out += part.data();
  }
  return out;
}

std::string first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

Line the_program() {
#ifdef PS_CUDA_ARCHS
  const std::string cuda = std::string(PS_CUDA_ARCHS).empty()
                               ? ", without CUDA kernels"
                               : ", CUDA kernels for " + std::string(PS_CUDA_ARCHS);
#else
  const std::string cuda;
#endif
  return {"parscope", State::kOk, PS_VERSION ", " + this_program().string() + cuda, ""};
}

Line machine() {
  std::ifstream in("/proc/meminfo");
  std::string word;
  long long total = 0, available = 0;
  while (in >> word) {
    if (word == "MemTotal:") in >> total;
    if (word == "MemAvailable:") in >> available;
  }
  char text[120];
  std::snprintf(text, sizeof text, "%u cores, %.1f GiB of memory, %.1f GiB of it free",
                std::thread::hardware_concurrency(), static_cast<double>(total) / 1048576,
                static_cast<double>(available) / 1048576);
  return {"machine", State::kOk, text, ""};
}

// CUdevice_attribute: the compute capability.
constexpr int kMajor = 75, kMinor = 76;
#ifdef PS_CUDA_MAJOR
constexpr int kToolkit = PS_CUDA_MAJOR;
#else
constexpr int kToolkit = 0;
#endif

// A kernel for sm_XY runs on every device of the same X and no smaller Y.
bool runs_on(int major, int minor) {
#ifdef PS_CUDA_ARCHS
  std::istringstream archs(std::string(PS_CUDA_ARCHS).substr(0, 3) == "sm "
                               ? std::string(PS_CUDA_ARCHS).substr(3)
                               : std::string());
  for (int arch = 0; archs >> arch;) {
    if (arch / 10 == major && arch % 10 <= minor) return true;
  }
#else
  (void)major, (void)minor;
#endif
  return false;
}

// CUresult: what cuInit says where it finds no device, and where two halves of a driver differ.
constexpr int kNoDevice = 100, kMismatch = 803;

std::string cuda_text(int version) {
  return "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Line no_device(int code, int cuda_version) {
  const std::string driver = "a driver for " + cuda_text(cuda_version);
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (code != 0 && code != kNoDevice) {
    return {
        "GPU", State::kNote, driver + " that does not start (cuInit: " + std::to_string(code) + ")",
        code == kMismatch ? "its kernel module and libcuda.so.1 are of different versions: reboot"
                          : "nvidia-smi may say more; the model runs on the host meanwhile"};
  }
  if (visible != nullptr) {
    return {"GPU", State::kNote,
            driver + ", and no device: CUDA_VISIBLE_DEVICES is '" + visible + "'",
            "unset it, or name devices in it (CUDA_VISIBLE_DEVICES=0); the model runs on the host "
            "meanwhile"};
  }
  return {"GPU", State::kNote, driver + ", and no device",
          "in a container, start it with its GPUs; the model runs on the host meanwhile"};
}

// Through the driver's own library, without the toolkit: exactly what a CUDA program would see.
Line gpu() {
  const std::string driver = first_line("/proc/driver/nvidia/version");
  void* cuda = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (cuda == nullptr) {
    return {"GPU", State::kNote,
            driver.empty() ? "no NVIDIA driver (no libcuda.so.1)" : "a driver, but no libcuda.so.1",
            "the model runs its kernels on the host; for a GPU install NVIDIA's driver"};
  }
  using Init = int (*)(unsigned);
  using Number = int (*)(int*);
  using Name = int (*)(char*, int, int);
  using Attribute = int (*)(int*, int, int);
  using Memory = int (*)(std::size_t*, int);
  const auto init = reinterpret_cast<Init>(::dlsym(cuda, "cuInit"));
  const auto version = reinterpret_cast<Number>(::dlsym(cuda, "cuDriverGetVersion"));
  const auto count = reinterpret_cast<Number>(::dlsym(cuda, "cuDeviceGetCount"));
  const auto name = reinterpret_cast<Name>(::dlsym(cuda, "cuDeviceGetName"));
  if (init == nullptr || version == nullptr || count == nullptr || name == nullptr) {
    return {"GPU", State::kMissing, "libcuda.so.1 is not NVIDIA's", "install NVIDIA's driver"};
  }
  const int code = init(0);
  const auto attribute = reinterpret_cast<Attribute>(::dlsym(cuda, "cuDeviceGetAttribute"));
  const auto memory = reinterpret_cast<Memory>(::dlsym(cuda, "cuDeviceTotalMem_v2"));
  int devices = 0, cuda_version = 0;
  version(&cuda_version);
  if (code != 0 || count(&devices) != 0 || devices == 0) {
    return no_device(code, cuda_version);
  }
  std::string found = std::to_string(devices) + (devices == 1 ? " device: " : " devices: "), fix;
  for (int i = 0; i < devices; ++i) {
    std::array<char, 128> text{};
    name(text.data(), static_cast<int>(text.size()) - 1, i);
    found += (i > 0 ? ", " : "") + std::string(text.data());
    int major = 0, minor = 0;
    std::size_t bytes = 0;
    const bool known = attribute != nullptr && attribute(&major, kMajor, i) == 0 &&
                       attribute(&minor, kMinor, i) == 0;
    if (known) found += " (sm_" + std::to_string(major * 10 + minor);
    if (known && memory != nullptr && memory(&bytes, i) == 0) {
      found += ", " + std::to_string(bytes >> 30) + " GiB";
    }
    if (known) found += ")";
    if (known && fix.empty() && !runs_on(major, minor)) {
      const std::string sm = std::to_string(major * 10 + minor);
      fix = "no kernel of this program runs on sm_" + sm +
            ": build it where nvcc is, with -DPARSCOPE_CUDA_ARCHS=" + sm;
    }
  }
  found += "; driver for " + cuda_text(cuda_version);
  if (cuda_version / 1000 < kToolkit && fix.empty()) {
    fix = "the kernels were built with CUDA " + std::to_string(kToolkit) +
          ": update NVIDIA's driver; the model runs on the host meanwhile";
  }
  return {"GPU", fix.empty() ? State::kOk : State::kNote, found, fix};
}

// The places that were tried have lines of their own.
std::string does_not_load(const Error& error, const std::string& wants) {
  if (error.where.starts_with("LibTorch"))
    return " needs LibTorch " + wants + ", which is not here";
  const std::string reason = error.found.substr(0, error.found.find(" ["));
  return " does not load: " + (reason.empty() ? error.where + " " + error.what : reason);
}

std::vector<Line> torch() {
  std::vector<Line> out;
  const Result<fs::path> reference = find_reference();
  const std::string wants = torch_version_built_for();
  if (!reference.ok()) {
    out.push_back({"reference", State::kMissing, reference.error().what,
                   "check, diagnose, golden verify and trace --engine reference need it"});
  } else {
    const Result<std::string> loaded = load_reference();
    if (loaded.ok()) {
      out.push_back({"reference", State::kOk, reference->lexically_normal().string(), ""});
      out.push_back({"LibTorch", State::kOk,
                     *loaded + (wants.empty() ? "" : " (built for " + wants + ")"), ""});
      return out;
    }
    out.push_back({"reference", State::kMissing,
                   reference->lexically_normal().string() + does_not_load(loaded.error(), wants),
                   "pip install torch" + (wants.empty() ? "" : "==" + wants) +
                       ", or PARSCOPE_TORCH=DIR with include/ and lib/ of it"});
  }
  const char* given = std::getenv("PARSCOPE_TORCH");
  for (const TorchPlace& place : torch_places(true)) {
    std::string found = place.how;
    if (place.how == "PARSCOPE_TORCH" && given != nullptr) found += "=" + std::string(given);
    found += ": " + (place.lib.empty() ? "none" : place.lib.string());
    if (!place.version.empty()) found += " (torch " + place.version + ")";
    out.push_back({"LibTorch", State::kNote, found, ""});
  }
  return out;
}

Line python() {
  const std::string said = shell(
      "python3 -c '\nimport sys, importlib.util as u, importlib.metadata as m\n"
      "print(\"python \" + sys.version.split()[0])\n"
      "for n in (\"torch\", \"numpy\", \"transformers\", \"parscope_capture\"):\n"
      "    if u.find_spec(n):\n"
      "        try: v = m.version(n)\n"
      "        except Exception: v = \"\"\n"
      "        print((n + \" \" + v).strip())\n' 2>/dev/null");
  if (said.empty()) {
    return {"python3", State::kNote, "none",
            "only recording from Python and repro scripts need it (Debian: python3)"};
  }
  std::string found = said.substr(0, said.size() - 1);
  for (std::size_t at = 0; (at = found.find('\n')) != std::string::npos;)
    found.replace(at, 1, ", ");
  const bool capture = said.find("parscope_capture") != std::string::npos;
  return {"python3", State::kOk, found,
          capture ? "" : "to record traces from Python: pip install the folder capture/"};
}

Line viewer() {
  std::error_code ec;
  const fs::path here = this_program().parent_path() / "parscope-viewer";
  if (!fs::exists(here, ec)) {
    return {"viewer", State::kNote, "parscope-viewer is not beside the program",
            "reports are pictures and HTML all the same (--report DIR)"};
  }
  const bool display =
      std::getenv("DISPLAY") != nullptr || std::getenv("WAYLAND_DISPLAY") != nullptr;
  return {"viewer", State::kOk, here.string() + (display ? "" : ", no display here"),
          display ? "" : "parscope view TRACE --screenshot FILE.png needs none"};
}

Line packed_traces() {
  if (has_zstd()) return {"zstd", State::kOk, "compressed traces are read and written", ""};
  return {"zstd", State::kNote, "none in this build: compressed traces are not read",
          "install libzstd-dev and build parscope again"};
}

std::vector<Line> examine() {
  std::vector<Line> out = {the_program(), machine(), gpu()};
  for (Line& line : torch()) out.push_back(std::move(line));
  out.push_back(python());
  out.push_back(viewer());
  out.push_back(packed_traces());
  std::string presets;
  for (const NamePreset& p : name_presets()) {
    presets += (presets.empty() ? "" : ", ") + std::string(p.name);
  }
  out.push_back({"names", State::kOk, "presets for " + presets, ""});
  return out;
}

std::string word(State s) {
  return s == State::kOk ? "ok" : s == State::kNote ? "note" : "missing";
}

std::string json_of(const std::vector<Line>& lines, bool good) {
  std::string out = "{\"ok\": " + std::string(good ? "true" : "false") + ", \"checks\": [";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const Line& l = lines[i];
    out += std::string(i > 0 ? ",\n  " : "\n  ") + "{\"name\": " + json_string(l.name) +
           ", \"state\": " + json_string(word(l.state)) + ", \"found\": " + json_string(l.found) +
           ", \"fix\": " + json_string(l.fix) + "}";
  }
  return out + "\n]}\n";
}

constexpr Option kOptions[] = {kJson, kQuiet};

Result<int> run(const Arguments& arguments) {
  if (!arguments.positionals().empty()) {
    return wrong_usage(doctor_command(), "takes no words: " + arguments.positionals()[0]);
  }
  const std::vector<Line> lines = examine();
  const bool good = std::none_of(lines.begin(), lines.end(),
                                 [](const Line& l) { return l.state == State::kMissing; });
  if (arguments.has("--json")) {
    print(json_of(lines, good));
    return good ? 0 : 1;
  }
  std::string out;
  for (const Line& l : lines) {
    if (arguments.has("--quiet") && l.state != State::kMissing) continue;
    std::string head = "  " + l.name;
    head.resize(14, ' ');
    std::string state = word(l.state);
    state.resize(9, ' ');
    out += head + state + l.found + "\n";
    if (!l.fix.empty()) out += std::string(23, ' ') + l.fix + "\n";
  }
  out += good ? "everything that is needed is here\n" : "something is missing, see above\n";
  print(out);
  return good ? 0 : 1;
}

}  // namespace

const Command& doctor_command() {
  static const Command command{
      "doctor",
      "says what this machine has, what is missing, and how to get it",
      "doctor [options]",
      "Program, machine, GPU and driver, the LibTorch that the reference runs on and where it was\n"
      "found (PARSCOPE_TORCH, beside the program, python3's torch), Python, viewer. Exit code 1\n"
      "where something that commands need is missing.\n\n"
      "  parscope doctor\n"
      "  parscope doctor --json",
      kOptions,
      run};
  return command;
}

}  // namespace ps::cli
