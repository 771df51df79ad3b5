#include "tools/commands/session.h"

#include <omp.h>

namespace tools {

void use_threads(int64_t threads) {
  omp_set_dynamic(0);
  omp_set_num_threads(threads > 0 ? static_cast<int>(threads) : omp_get_num_procs());
}

}  // namespace tools
