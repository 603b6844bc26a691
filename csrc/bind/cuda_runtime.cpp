// Streams and errors of CUDA without linking torch's CUDA library: one build serves CPU and GPU machines.
#include "bind/tensor.h"

#ifdef WSIS_WITH_CUDA
#include <cuda_runtime.h>
#include <dlfcn.h>
#if __has_include(<nvtx3/nvToolsExt.h>)  // no part of every toolkit
#include <nvtx3/nvToolsExt.h>
#define WSIS_NVTX
#endif
#endif

namespace wsis {

#ifdef WSIS_WITH_CUDA

DeviceScope::DeviceScope(const char* op, const Tensor& t) : guard(t.get_device_index()) {
#ifdef WSIS_NVTX
  nvtxRangePushA((std::string("wsis::") + op).c_str());
#endif
}

DeviceScope::~DeviceScope() {
#ifdef WSIS_NVTX
  nvtxRangePop();
#endif
}

void* current_stream(const Tensor& t) {
  using GetStream = int32_t (*)(int32_t, void**);
  static const GetStream get_stream = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return library ? reinterpret_cast<GetStream>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  STD_TORCH_CHECK(get_stream, "wsis: CUDA tensors need a torch with CUDA (libtorch_cuda.so is not loaded)");
  void* stream = nullptr;
  STD_TORCH_CHECK(get_stream(t.get_device_index(), &stream) == 0, "wsis: torch gave no current CUDA stream");
  return stream;
}

void check_cuda(const char* op, int code, const Tensor& t) {
  if (code == 0) return;
  cudaGetLastError();  // or the next launch would be blamed for it
  const auto error = static_cast<cudaError_t>(code);
  cudaDeviceProp properties{};
  std::string device = "device " + std::to_string(t.get_device_index());
  if (cudaGetDeviceProperties(&properties, t.get_device_index()) == cudaSuccess)
    device = std::string(properties.name) + " (sm_" + std::to_string(properties.major) +
             std::to_string(properties.minor) + ")";
  STD_TORCH_CHECK(false, "wsis::", op, ": CUDA error ", code, " (", cudaGetErrorString(error), ") on ", device,
                  "; compiled for: " WSIS_CUDA_ARCHITECTURES ". `python -m wsis doctor` tells more.");
}

#else

void* current_stream(const Tensor&) {
  STD_TORCH_CHECK(false,
                  "wsis: built without CUDA; install the CUDA toolkit (nvcc) and rebuild with "
                  "`WSIS_CUDA=1 pip install --no-build-isolation .`");
  return nullptr;
}

void check_cuda(const char*, int, const Tensor&) {}

#endif

}  // namespace wsis
