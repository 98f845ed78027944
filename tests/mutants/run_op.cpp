// Runs one op, the one that PS_MUTANT_OP names (its header: PS_MUTANT_HEADER), the way ops_test
// does, and says which runner saw a fault. The op's own (broken) header is compiled in here, so it
// wins over the library's.
#include <cstdio>

#include "tests/mutants/op_trial.h"

#include PS_MUTANT_HEADER

int main() {
  const ps::OpEntry& op = ps::cpu::PS_MUTANT_OP();
  const std::string oracle =
      ps::first_fault(op, [](ps::OpTrial& trial) { return trial.oracle_fault(); });
  const std::string order =
      ps::first_fault(op, [](ps::OpTrial& trial) { return trial.order_fault(); });
  const std::string checked =
      ps::first_fault(op, [](ps::OpTrial& trial) { return trial.checked_fault(); });
  if (!oracle.empty()) std::printf("oracle ");
  if (!order.empty()) std::printf("order ");
  if (!checked.empty()) std::printf("checked ");
  std::printf("\n%s\n%s\n%s\n", oracle.c_str(), order.c_str(), checked.c_str());
  return oracle.empty() && order.empty() && checked.empty() ? 0 : 1;
}
