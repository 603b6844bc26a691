// Large results on the CPU: the first touch of fresh memory costs a fault for every 4 KiB page, which for a result of
// 100 MB is several times the work of writing it. In huge pages, where the system grants them, it is a fifth.
#pragma once

#include "bind/tensor.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace wsis {

constexpr int64_t kHugePage = int64_t(2) << 20;

// Asks for huge pages under the whole ones of a tensor on the CPU that has not been written yet. Only a wish.
inline void prefer_huge_pages(Tensor& t) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const int64_t bytes = t.numel() * t.element_size();
  if (!t.is_cpu() || bytes < 2 * kHugePage) return;
  const auto first = (reinterpret_cast<intptr_t>(t.mutable_data_ptr()) + kHugePage - 1) / kHugePage * kHugePage;
  const auto last = (reinterpret_cast<intptr_t>(t.mutable_data_ptr()) + bytes) / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace wsis
