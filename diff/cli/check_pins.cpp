#include "diff/cli/check_pins.h"

#include <algorithm>
#include <span>
#include <sys/stat.h>

#include "core/crc32.h"
#include "core/file.h"

namespace ps::cli {

namespace {

namespace fs = std::filesystem;

std::string size_and_time(const fs::path& file) {
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) return "gone";
  return std::to_string(status.st_size) + " bytes of " + std::to_string(status.st_mtim.tv_sec) +
         "." + std::to_string(status.st_mtim.tv_nsec);
}

Result<void> pin_model(const std::string& name, const fs::path& dir, Pins& pins) {
  PS_TRY(const std::string config, read_text(dir / "config.json"));
  pins.emplace_back(name + " config.json",
                    "CRC-32 " + crc32_text(crc32_of(std::as_bytes(std::span(config)))));
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".safetensors") files.push_back(it->path());
  }
  if (error) return bad_input(dir.string(), "cannot be listed", "", error.message());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    pins.emplace_back(name + " " + file.filename().string(), size_and_time(file));
  }
  return {};
}

void add(Crc32& crc, const std::vector<std::int64_t>& values) {
  crc.bytes(std::as_bytes(std::span(values)));
}

std::string tokens_of(const RunPlan& plan) {
  const StepInputs& p = plan.prompt;
  Crc32 crc;
  add(crc, p.input_ids);
  add(crc, p.attention_mask.value_or(std::vector<std::int64_t>{}));
  add(crc, p.position_ids.value_or(std::vector<std::int64_t>{}));
  return std::to_string(p.batch) + "x" + std::to_string(p.length) + ", CRC-32 " +
         crc32_text(crc.value());
}

}  // namespace

Result<Pins> check_pins(const Arguments& arguments, const Model& model, const Model& candidate,
                        const EngineChoice& choice, const RunPlan& plan) {
  Pins pins;
  pins.emplace_back("the program",
                    std::string(PS_VERSION) + ", " + size_and_time("/proc/self/exe"));
  PS_TRY_VOID(pin_model("the model's", model.checkpoint->dir(), pins));
  if (candidate.checkpoint->dir() != model.checkpoint->dir()) {
    PS_TRY_VOID(pin_model("the candidate's", candidate.checkpoint->dir(), pins));
  }
  pins.emplace_back("the tokens", tokens_of(plan));
  pins.emplace_back("--steps", std::to_string(plan.decode_steps));
  pins.emplace_back("--chunk", std::to_string(plan.chunk));
  pins.emplace_back("--beams", std::to_string(plan.beams));
  pins.emplace_back("--engine", std::string(engine_name(choice)));
  pins.emplace_back("--dtype", std::string(torch_name(choice.options.dtype)));
  pins.emplace_back("--tp", std::to_string(choice.tp));
  pins.emplace_back("--threads", std::to_string(choice.options.threads));
  for (const char* name : {"--device", "--cross-check", "--mask", "--attention", "--sample"}) {
    pins.emplace_back(name, arguments.get(name, "default"));
  }
  for (const char* name : {"--natural", "--first"}) {
    pins.emplace_back(name, arguments.has(name) ? "given" : "not given");
  }
  return pins;
}

}  // namespace ps::cli
