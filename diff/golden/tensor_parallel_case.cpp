#include "diff/golden/tensor_parallel_case.h"

#include "diff/golden/tp_case.h"

namespace ps {

Result<std::string> verify_tensor_parallel_case(const std::filesystem::path& path) {
  if (path.filename() == "layouts.json") return verify_layouts(path);
  if (path.filename() == "fsdp.json") return verify_fsdp(path);
  PS_TRY(const TpCase c, read_tp_case(path));
  PS_TRY(const std::string plans, check_tp_plans(c));
  PS_TRY(const std::string points, check_tp_points(c));
  PS_TRY(const std::string faults, check_tp_faults(c));
  return plans + "; " + points + "; " + faults;
}

}  // namespace ps
