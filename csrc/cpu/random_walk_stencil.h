// The transition stencil of one image on the CPU, and one step of the walk with it.
#pragma once

#include "common/random_walk.h"
#include "cpu/plane.h"

namespace wsis {

constexpr int64_t kMaxChannels = 32;  // planes that walk together: bounds the working memory of an image

// One-sided edge weights and degrees of one image. weights(y, p)[x] joins (y, x) and (y, x) + offsets[p]; it is 0 where
// that leaves the image, margins included. The offsets are sorted by dy, then dx.
template <class T>
class Stencil {
 public:
  Stencil(const T* boundary, int64_t stride, int64_t h, int64_t w, int radius, double beta);

  const T* weights(int64_t y, int64_t p) const { return weights_.data() + place(y, p); }
  T* weights(int64_t y, int64_t p) { return weights_.data() + place(y, p); }
  const T* degree(int64_t y) const { return degree_.data() + plane.at(y); }  // without the pixel itself
  const T* inverse_degree(int64_t y) const { return inverse_degree_.data() + plane.at(y); }  // with it
  int64_t offsets() const { return static_cast<int64_t>(order.size()); }

  const Plane plane;
  const int radius;
  const PathTable paths;
  std::vector<int> order;  // [P] place in `paths` of the p-th offset here
  Cell offset(int64_t p) const { return paths.offsets[order[p]]; }

 private:
  int64_t place(int64_t y, int64_t p) const { return plane.margin + (y * offsets() + p) * plane.pitch; }
  void fill_degrees();
  Buffer<T> weights_, degree_, inverse_degree_;
};

// One term of a recurrence: next = scale W current - previous_scale previous (see next_term), sum += weight next.
struct Term {
  double scale, previous_scale, weight;
};

// Computes a term for all rows of `count` planes with the fastest kernel there is; see walk_rows.
template <class T>
void walk_term(const Stencil<T>& stencil, const T* current, T* previous, T* sum, int64_t count, int64_t plane_size,
               const Term& term);

// Computes a term for the rows [first, last) of `count` planes that lie plane_size apart. `previous` becomes `next`.
template <class T>
void walk_rows(const Stencil<T>& stencil, const T* current, T* previous, T* sum, int64_t count, int64_t plane_size,
               const Term& term, int64_t first, int64_t last);

// The same at radius 5, vectorised by hand; at most kMaxChannels planes.
void walk_rows_radius5(const Stencil<float>& stencil, const float* current, float* previous, float* sum, int64_t count,
                       int64_t plane_size, const Term& term, int64_t first, int64_t last);

}  // namespace wsis
