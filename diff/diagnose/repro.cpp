#include "diff/diagnose/repro.h"

#include <algorithm>

#include "core/file.h"
#include "core/safetensors.h"
#include "diff/diagnose/torch_formula.h"
#include "diff/report/words.h"

namespace ps {

namespace {

constexpr const char* kData = "repro.safetensors";

constexpr const char* kAgreement =
    R"(print("torch and parscope's right value differ by at most", (y - expected)[counts].abs().max().item())
)";
constexpr const char* kDifference = R"(bad = ~((candidate - y).abs() <= bound) & counts
print("the candidate is beyond rounding in", bad.sum().item(), "of", counts.sum().item(), "cells")
for at in bad.nonzero()[:8].tolist():
    print(at, "candidate", candidate[tuple(at)].item(), "right", y[tuple(at)].item())
raise SystemExit(1 if bad.any() else 0)
)";

std::string quoted_list(const std::vector<std::string>& names, const std::string& before) {
  std::string out = "[";
  for (const std::string& name : names) {
    out += (out.size() > 1 ? ", " : "") + json_string(before + name);
  }
  return out + "]";
}

}  // namespace

Result<void> check_repro_dir(const std::filesystem::path& dir) {
  std::error_code ec;
  if (!std::filesystem::exists(dir, ec)) return {};
  if (!std::filesystem::is_directory(dir, ec)) {
    return bad_input(dir.string(), "is in the way of --repro", "a new or an empty folder",
                     "a file");
  }
  if (std::filesystem::is_empty(dir, ec) && !ec) return {};
  return bad_input(dir.string(), "cannot take the reproduction", "a new or an empty folder",
                   ec ? ec.message() : "one that holds files");
}

void Reproduction::look(std::int64_t step, const JudgedPoint& point) {
  if (!point_.empty()) return;
  step_ = step;
  point_ = point.op.point;
  chain_ = point.expected.chain;
  formula_ = torch_formula(point, model_.config);
  // A formula needs the op's own inputs, in its order; a chain starts from what was captured.
  for (const std::string& name : formula_.empty() ? point.expected.basis : point.op.inputs) {
    if (const auto value = point.lookup(name)) inputs_.emplace_back(name, Tensor::copy_of(*value));
  }
  if (chain_ == 1) weights_ = point.op.weights;
  candidate_ = Tensor::copy_of(point.candidate);
  expected_ = Tensor::copy_of(point.expected.value.view());
  bound_ = Tensor::copy_of(point.expected.bound.view());
  if (point.ignored) ignored_ = Tensor::copy_of(point.ignored->view());
  // The reference rounds weights to the candidate's type first: that loss is no fault of the op.
  if (!weights_.empty() && !formula_.empty()) {
    formula_.insert(formula_.begin(), "w = [v.to(torch." +
                                          std::string(torch_name(point.rounding.run)) +
                                          ").double() for v in w]");
  }
}

std::string Reproduction::script(const Report& report) const {
  std::vector<std::string> names;
  for (const auto& [name, value] : inputs_) names.push_back(name);
  std::string out = "# " + plain(point_) + ", step " + std::to_string(step_) + "\n";
  if (const Finding* cause = cause_of(report); cause != nullptr) {
    for (const std::string& line : wrapped(plain(cause->id + ": " + cause->message), 96)) {
      out += "# " + line + "\n";
    }
  }
  out += "import os\nimport torch\nimport torch.nn.functional as F\n";
  out += "from safetensors.torch import load_file\n\n";
  out += "t = load_file(os.path.join(os.path.dirname(os.path.abspath(__file__)), \"" +
         std::string(kData) + "\"))\n";
  out +=
      "candidate, expected, bound = t[\"candidate\"].double(), t[\"expected\"].double(), "
      "t[\"bound\"]\n";
  if (formula_.empty()) {
    out += "# " +
           (chain_ > 1 ? std::to_string(chain_) + " ops lie between what was captured (" +
                             quoted_list(names, "") + ")\n# and this point"
                       : std::string("this op has no short form in torch")) +
           ". The right value is the stored one\ny = expected\n";
  } else {
    out += "x = [t[n] if t[n].dtype == torch.bool else t[n].double() for n in " +
           quoted_list(names, "input/") + "]\n";
    if (!weights_.empty()) {
      out += "w = [t[n] for n in " + quoted_list(weights_, "weight/") + "]\n";
    }
    for (const std::string& line : formula_) out += line + "\n";
  }
  out += "counts = " +
         std::string(ignored_ ? "~t[\"ignored\"].bool().expand(y.shape)"
                              : "torch.ones(y.shape, dtype=torch.bool)") +
         "  # not padding\n";
  if (!formula_.empty()) out += kAgreement;
  out += kDifference;
  return out;
}

Result<bool> Reproduction::write(const std::filesystem::path& dir, const Report& report) const {
  const auto& first = report.first_divergence;
  if (point_.empty() || !first || first->point != point_ || first->step != step_) return false;
  PS_TRY_VOID(check_repro_dir(dir));  // again: a run takes its time
  PS_TRY_VOID(ensure_directory(dir));
  PS_TRY(SafetensorsWriter file, SafetensorsWriter::create(dir / kData));
  for (const auto& [name, value] : inputs_) PS_TRY_VOID(file.add("input/" + name, value.view()));
  for (const std::string& name : weights_) {
    const TensorView* weight = model_.checkpoint->peek(name);
    PS_CHECK(weight != nullptr, "a weight that the op has read");
    PS_TRY_VOID(file.add("weight/" + name, *weight));
  }
  PS_TRY_VOID(file.add("candidate", candidate_.view()));
  PS_TRY_VOID(file.add("expected", expected_.view()));
  PS_TRY_VOID(file.add("bound", bound_.view()));
  if (ignored_) PS_TRY_VOID(file.add("ignored", ignored_->view()));
  PS_TRY_VOID(file.close());
  PS_TRY_VOID(write_text(dir / "repro.py", script(report)));
  return true;
}

}  // namespace ps
