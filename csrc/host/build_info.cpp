// What this build was made of and for; `wsis doctor` prints it.
#include "host/host.h"

namespace py = pybind11;

namespace wsis::host {

void add_build_info(py::module_& m) {
  m.def(
      "build_info",
      [] {
        py::dict info;
        info["version"] = WSIS_VERSION;
        info["compiler"] = WSIS_COMPILER;
        info["built_with_torch"] = WSIS_TORCH_VERSION;
        info["cuda"] = WSIS_CUDA_VERSION;
        info["cuda_architectures"] = WSIS_CUDA_ARCHITECTURES;
        return info;
      },
      "Dictionary of version, compiler, built_with_torch, cuda ('' when built without) and cuda_architectures.");
}

}  // namespace wsis::host
