// The transition stencil of one image on the CPU, and one step of the walk with it.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#include "common/random_walk.h"

namespace wsis {

constexpr int64_t kMargin = 16;  // zero columns left of every row (and so right of the row before): >= kMaxRadius - 1
constexpr int64_t kLanes = 16;   // rows are padded with zeros to a multiple of this

// 64-byte aligned, zeroed memory.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : data_(static_cast<T*>(::operator new(std::max<int64_t>(1, count) * sizeof(T), std::align_val_t(64)))) {
    std::fill(data_.get(), data_.get() + count, T(0));
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t(64)); }
  };
  std::unique_ptr<T, Free> data_;
};

// How the planes of one image lie in memory: rows of `pitch` values of which w count, after a margin of zeros.
struct Plane {
  int64_t h, w, pitch;

  Plane(int64_t h_, int64_t w_) : h(h_), w(w_), pitch(kMargin + (w_ + kLanes - 1) / kLanes * kLanes) {}
  int64_t size() const { return h * pitch + kMargin; }
  int64_t at(int64_t y) const { return y * pitch + kMargin; }
};

// One-sided edge weights and degrees of one image. weights(y, p)[x] joins (y, x) and (y, x) + offsets[p]; it is 0 where
// that leaves the image, margins included. The offsets are sorted by dy, then dx.
template <class T>
class Stencil {
 public:
  Stencil(const T* boundary, int64_t stride, int64_t h, int64_t w, int radius, double beta);

  const T* weights(int64_t y, int64_t p) const { return weights_.data() + kMargin + (y * offsets() + p) * plane.pitch; }
  T* weights(int64_t y, int64_t p) { return weights_.data() + kMargin + (y * offsets() + p) * plane.pitch; }
  const T* inverse_degree(int64_t y) const { return inverse_degree_.data() + plane.at(y); }
  int64_t offsets() const { return static_cast<int64_t>(order.size()); }

  const Plane plane;
  const int radius;
  const PathTable paths;
  std::vector<int> order;  // [P] place in `paths` of the p-th offset here
  Cell offset(int64_t p) const { return paths.offsets[order[p]]; }

 private:
  void fill_degrees();
  Buffer<T> weights_, inverse_degree_;
};

// One term of a recurrence: next = scale D^-1 A current - previous_scale previous, accumulated = sum + weight next.
struct Term {
  double scale, previous_scale, weight;
};

// Computes a term for the rows [first, last) of `count` planes that lie plane_size apart. `previous` becomes `next`.
template <class T>
void walk_rows(const Stencil<T>& stencil, const T* current, T* previous, T* sum, int64_t count, int64_t plane_size,
               const Term& term, int64_t first, int64_t last);

}  // namespace wsis
