// Pages of fresh memory that are about to be written.
#pragma once

#include <cstdint>
#include <vector>

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

// Asks for the huge pages that lie wholly within `bytes` from `begin`, for touches to come. Only a wish.
inline void prefer_huge_pages(const void* begin, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const intptr_t first = (reinterpret_cast<intptr_t>(begin) + kHugePage - 1) / kHugePage * kHugePage;
  const intptr_t last = (reinterpret_cast<intptr_t>(begin) + bytes) / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Room for `count` values, in huge pages if it takes several.
template <class T>
void reserve_large(std::vector<T>& values, size_t count) {
  if (count <= values.capacity()) return;
  std::vector<T> roomy;
  roomy.reserve(count);
  if (count * sizeof(T) >= 2 * static_cast<size_t>(kHugePage)) prefer_huge_pages(roomy.data(), count * sizeof(T));
  roomy.assign(values.begin(), values.end());
  values.swap(roomy);
}

// values = `count` times `value`.
template <class T>
void assign_large(std::vector<T>& values, size_t count, const T& value) {
  values.clear();
  reserve_large(values, count);
  values.assign(count, value);
}

}  // namespace wsis
