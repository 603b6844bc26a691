// The device-wide algorithms of CUB that the kernels use, each with a plain twin for the CPU simulator of the tests.
// `scratch` of scratch_bytes(n) bytes is allocated by the caller; nothing here allocates or waits.
#pragma once

#include "common/cuda_launch.h"

#ifdef CUSIM
#include <algorithm>
#include <numeric>
#include <vector>
#else
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#endif

namespace wsis {

// out[i] = in[0] + .. + in[i - 1]; out may be in.
struct ExclusiveSum {
  static size_t scratch_bytes(int64_t n) {
#ifdef CUSIM
    return 1;
#else
    size_t bytes = 0;
    cub::DeviceScan::ExclusiveSum(nullptr, bytes, static_cast<int32_t*>(nullptr), static_cast<int32_t*>(nullptr), n);
    return bytes;
#endif
  }

  static int run(void* scratch, size_t bytes, const int32_t* in, int32_t* out, int64_t n, cudaStream_t stream) {
#ifdef CUSIM
    std::exclusive_scan(in, in + n, out, 0);
    return 0;
#else
    return static_cast<int>(cub::DeviceScan::ExclusiveSum(scratch, bytes, in, out, n, stream));
#endif
  }
};

// Stable sort of pairs by the lowest `bits` bits of the keys.
struct SortPairs {
  static size_t scratch_bytes(int64_t n, int bits) {
#ifdef CUSIM
    return 1;
#else
    size_t bytes = 0;
    const uint32_t* in = nullptr;
    uint32_t* out = nullptr;
    cub::DeviceRadixSort::SortPairs(nullptr, bytes, in, out, in, out, n, 0, bits);
    return bytes;
#endif
  }

  static int run(void* scratch, size_t bytes, const uint32_t* keys, uint32_t* sorted_keys, const uint32_t* values,
                 uint32_t* sorted_values, int64_t n, int bits, cudaStream_t stream) {
#ifdef CUSIM
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), int64_t{0});
    const uint32_t mask = bits < 32 ? (1u << bits) - 1 : ~0u;
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return (keys[a] & mask) < (keys[b] & mask); });
    for (int64_t i = 0; i < n; ++i) {
      sorted_keys[i] = keys[order[static_cast<size_t>(i)]];
      sorted_values[i] = values[order[static_cast<size_t>(i)]];
    }
    return 0;
#else
    return static_cast<int>(cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, sorted_keys, values, sorted_values,
                                                            n, 0, bits, stream));
#endif
  }
};

}  // namespace wsis
