// Pages of fresh memory that are about to be written.
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace wsis {

constexpr intptr_t kPage = 4096;
constexpr intptr_t kHugePage = intptr_t{2} << 20;

// Has the system bring the pages of [begin, end) at once, where it can: cheaper than a fault each, and than the two of a
// page that is read before it is written. Only a wish; values stay as they are.
inline void bring_pages(const void* begin, const void* end) {
#if defined(__linux__) && defined(MADV_POPULATE_WRITE)
  const intptr_t first = reinterpret_cast<intptr_t>(begin) / kPage * kPage;
  const intptr_t bytes = reinterpret_cast<intptr_t>(end) - first;
  if (bytes > 2 * kPage) madvise(reinterpret_cast<void*>(first), bytes, MADV_POPULATE_WRITE);
#endif
}

// Asks for a huge page at `begin`, a multiple of its size, for touches to come. Only a wish.
inline void prefer_huge_page(const void* begin) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  madvise(const_cast<void*>(begin), kHugePage, MADV_HUGEPAGE);
#endif
}

}  // namespace wsis
