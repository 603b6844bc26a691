// Memory of the CPU kernels for what they write themselves.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

#include "cpu/pages.h"

namespace wsis {

// 64-byte aligned memory, not initialised; in huge pages if it takes several.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count = 0)
      : data_(static_cast<T*>(::operator new(std::max<int64_t>(1, count) * sizeof(T), std::align_val_t(64)))) {
    if (count * static_cast<int64_t>(sizeof(T)) >= 2 * kHugePage) prefer_huge_pages(data_.get(), count * sizeof(T));
  }
  Buffer(int64_t count, T value) : Buffer(count) { std::fill_n(data_.get(), count, value); }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t(64)); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace wsis
