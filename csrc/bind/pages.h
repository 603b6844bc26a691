// Large results on the CPU: the first touch of fresh memory costs a fault for every 4 KiB page, which for a result of
// 100 MB is several times the work of writing it. So what stays 0 is not touched at all: fresh pages of the system are
// zero, and come only where somebody writes. In huge pages, where the system grants them, a touch costs a fifth.
#pragma once

#include "bind/tensor.h"
#include "cpu/pages.h"

namespace wsis {

#if defined(__linux__) && defined(MADV_HUGEPAGE) && !defined(WSIS_SANITIZE)
#define WSIS_LAZY_PAGES 1
#endif

// Of the types that results have: one, four or eight bytes a value.
inline int64_t bytes_of(std::initializer_list<int64_t> sizes, ScalarType dtype) {
  int64_t bytes = dtype == ScalarType::Byte || dtype == ScalarType::Bool    ? 1
                  : dtype == ScalarType::Double || dtype == ScalarType::Long ? 8
                                                                             : 4;
  for (const int64_t size : sizes) bytes *= size;
  return bytes;
}

// Zeros on the CPU. The memory of large ones begins with a huge page and comes when it is touched; a page that is only
// read costs none.
inline Tensor lazy_zeros(const Tensor& like, std::initializer_list<int64_t> sizes,
                         ScalarType dtype = ScalarType::Float) {
#if defined(WSIS_LAZY_PAGES)
  const int64_t bytes = bytes_of(sizes, dtype);
  if (bytes >= 2 * kHugePage) {
    const int64_t mapped = (bytes / kHugePage + 2) * kHugePage;
    void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) {
      const intptr_t first = (reinterpret_cast<intptr_t>(memory) + kHugePage - 1) / kHugePage * kHugePage;
      std::vector<int64_t> strides(sizes.size(), 1);
      for (size_t i = sizes.size() - 1; i > 0; --i) strides[i - 1] = strides[i] * sizes.begin()[i];
      return torch::stable::from_blob(reinterpret_cast<void*>(first), sizes, strides,
                                      torch::stable::Device(torch::headeronly::DeviceType::CPU), dtype,
                                      [memory, mapped](void*) { munmap(memory, mapped); });
    }
  }
#endif
  return new_zeros(like, sizes, dtype);
}

// Asks for huge pages under a result of lazy_zeros, for touches to come. Only a wish.
inline void prefer_huge_pages(Tensor& t) {
#if defined(WSIS_LAZY_PAGES)
  const int64_t bytes = t.numel() * t.element_size();
  if (bytes < 2 * kHugePage) return;
  const int64_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;  // all of them lie in its mapping
  madvise(t.mutable_data_ptr(), whole, MADV_HUGEPAGE);
#endif
}

// What malloc may keep for the next when it is freed; anything larger it would hand out as fresh small pages each time.
constexpr int64_t kLargestKept = int64_t{32} << 20;

// A result of which everything is written.
inline Tensor new_result(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  const int64_t bytes = bytes_of(sizes, dtype);
  if (!like.is_cpu() || bytes < 2 * kHugePage) return new_empty(like, sizes, dtype);
  if (bytes > kLargestKept) {
    Tensor result = lazy_zeros(like, sizes, dtype);
    prefer_huge_pages(result);
    return result;
  }
  Tensor result = new_empty(like, sizes, dtype);
#if defined(WSIS_LAZY_PAGES)
  prefer_huge_pages(result.mutable_data_ptr(), bytes);  // in case it is fresh: malloc gives back what lies at its end
#endif
  return result;
}

// One on the CPU that is zero at first.
inline Tensor new_zero_result(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return bytes_of(sizes, dtype) <= kLargestKept ? new_zeros(like, sizes, dtype) : new_result(like, sizes, dtype);
}

}  // namespace wsis
