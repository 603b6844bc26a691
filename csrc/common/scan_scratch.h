// How much scratch memory a prefix sum on the GPU wants; the binding allocates it.
#pragma once

#include <cstdint>

namespace wsis {

constexpr int kScanBlock = 256;
constexpr int kScanTile = 8 * kScanBlock;

// int64 values of scratch for a prefix sum over n values.
inline int64_t scan_scratch(int64_t n) { return (n + kScanTile - 1) / kScanTile; }

}  // namespace wsis
