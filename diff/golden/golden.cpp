#include "diff/golden/golden.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/json.h"
#include "diff/golden/masks_case.h"
#include "diff/golden/parscale_case.h"
#include "diff/golden/recorded.h"
#include "diff/golden/sparse_case.h"
#include "diff/golden/tensor_parallel_case.h"

namespace ps {

namespace fs = std::filesystem;

std::string_view to_string(GoldenKind kind) {
  switch (kind) {
    case GoldenKind::kParscale:
      return "parscale";
    case GoldenKind::kTensorParallel:
      return "tensor-parallel";
    case GoldenKind::kSparse:
      return "sparse";
    case GoldenKind::kMasks:
      return "masks";
    case GoldenKind::kRecorded:
      return "recorded";
  }
  return "parscale";
}

namespace {

// What kind of case a case.json describes.
GoldenCase classify(GoldenCase c) {
  const auto text = read_text(c.path / "case.json");
  if (!text.ok()) {
    c.unreadable = text.error().line();
    return c;
  }
  const Result<Json> json = parse_json(text.value(), "case.json");
  if (!json.ok() || !json->is(Json::Kind::kObject)) {
    c.unreadable = json.ok() ? "case.json is not a JSON object" : json.error().line();
    return c;
  }
  const Json* schema = json->find("schema");
  const std::string name = schema != nullptr && schema->is(Json::Kind::kString) ? schema->text : "";
  if (name == "parscope.tp.case/1") {
    c.kind = GoldenKind::kTensorParallel;
  } else if (name == "parscope.sparse.case/1") {
    c.kind = GoldenKind::kSparse;
  } else if (json->find("program") != nullptr) {
    c.kind = GoldenKind::kMasks;
  } else {
    c.unreadable = "case.json names no schema that is known, and holds no mask program";
  }
  return c;
}

}  // namespace

Result<std::vector<GoldenCase>> find_golden_cases(const fs::path& dir) {
  std::error_code ec;
  if (!fs::is_directory(dir, ec)) {
    return bad_input(dir.string(), "no such folder", "a folder of golden cases");
  }
  std::vector<GoldenCase> cases;
  const auto add_folder = [&](const fs::path& folder) {
    GoldenCase c;
    c.path = folder;
    c.name = fs::relative(folder, dir, ec).generic_string();
    if (c.name.empty() || c.name == ".") c.name = folder.filename().generic_string();
    if (fs::is_regular_file(folder / "golden.json", ec)) {
      c.kind = GoldenKind::kRecorded;
      cases.push_back(std::move(c));
    } else if (fs::is_directory(folder / "expected-f64", ec)) {
      c.kind = GoldenKind::kParscale;
      cases.push_back(std::move(c));
    } else if (fs::exists(folder / "case.json", ec)) {
      cases.push_back(classify(std::move(c)));
    }
    for (const char* name : {"layouts.json", "fsdp.json"}) {
      if (!fs::is_regular_file(folder / name, ec)) continue;
      const std::string file = fs::relative(folder / name, dir, ec).generic_string();
      cases.push_back({file, folder / name, GoldenKind::kTensorParallel, ""});
    }
  };
  add_folder(dir);
  const auto options = fs::directory_options::skip_permission_denied;
  for (auto it = fs::recursive_directory_iterator(dir, options, ec);
       !ec && it != fs::recursive_directory_iterator(); it.increment(ec)) {
    if (!it->is_directory(ec)) continue;
    const std::string name = it->path().filename().string();
    if (name == "expected" || name == "expected-f64") {
      it.disable_recursion_pending();
      continue;
    }
    add_folder(it->path());
  }
  if (ec) return bad_input(dir.string(), "cannot be searched: " + ec.message());
  if (cases.empty()) {
    return bad_input(dir.string(), "no golden case found",
                     "folders with expected-f64/, golden.json, case.json, layouts.json or "
                     "fsdp.json");
  }
  std::sort(cases.begin(), cases.end(),
            [](const GoldenCase& a, const GoldenCase& b) { return a.name < b.name; });
  return cases;
}

GoldenResult verify_golden(const GoldenCase& golden, const GoldenOptions& options) {
  GoldenResult out;
  out.name = golden.name;
  out.kind = to_string(golden.kind);
  if (!golden.unreadable.empty()) {
    out.message = golden.unreadable;
    return out;
  }
  const auto verified = [&]() -> Result<std::string> {
    switch (golden.kind) {
      case GoldenKind::kMasks:
        return verify_masks_case(golden.path);
      case GoldenKind::kRecorded:
        return verify_recorded(golden.path, options);
      case GoldenKind::kSparse:
        return verify_sparse_case(golden.path);
      case GoldenKind::kTensorParallel:
        return verify_tensor_parallel_case(golden.path);
      case GoldenKind::kParscale:
        break;
    }
    return verify_parscale_case(golden.path, options);
  };
  const Result<std::string> checked = verified();
  if (!checked.ok() && checked.error().kind == Error::Kind::kMachine) {
    out.machine_failed = checked.error();
  }
  out.pass = checked.ok();
  out.message = checked.ok() ? checked.value() : checked.error().line();
  const bool by_reference =
      golden.kind == GoldenKind::kSparse || golden.kind == GoldenKind::kTensorParallel;
  if (by_reference && !options.is_reference)
    out.message += " (by the reference, whatever --engine says)";
  return out;
}

std::string golden_json(const std::vector<GoldenResult>& results) {
  nlohmann::ordered_json out;
  out["cases"] = nlohmann::ordered_json::array();
  std::int64_t passed = 0;
  for (const GoldenResult& r : results) {
    passed += r.pass ? 1 : 0;
    out["cases"].push_back({{"name", r.name},
                            {"kind", r.kind},
                            {"verdict", r.pass ? "pass" : "fail"},
                            {"message", r.message}});
  }
  out["passed"] = passed;
  out["failed"] = static_cast<std::int64_t>(results.size()) - passed;
  return out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace ps
