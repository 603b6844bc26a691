#include "cpu/changes.h"

#include "common/macros.h"

namespace wsis {
namespace {

template <class T>
inline __attribute__((always_inline)) void mark(const T* RESTRICT a, const T* RESTRICT b, int64_t n,
                                                uint8_t* RESTRICT flags) {
  for (int64_t i = 0; i < n; ++i) flags[i] = a[i] != b[i];
  std::memset(flags + n, 0, kFlagPadding);
}

}  // namespace

CPU_CLONES void mark_changes(const uint8_t* a, const uint8_t* b, int64_t n, uint8_t* flags) { mark(a, b, n, flags); }
CPU_CLONES void mark_changes(const uint16_t* a, const uint16_t* b, int64_t n, uint8_t* flags) { mark(a, b, n, flags); }
CPU_CLONES void mark_changes(const uint32_t* a, const uint32_t* b, int64_t n, uint8_t* flags) { mark(a, b, n, flags); }
CPU_CLONES void mark_changes(const uint64_t* a, const uint64_t* b, int64_t n, uint8_t* flags) { mark(a, b, n, flags); }

}  // namespace wsis
