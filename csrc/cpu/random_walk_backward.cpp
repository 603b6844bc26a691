// Gradients of the walk y = sum_k c_k t_k, t_(k+1) = s_k W t_k - r_k t_(k-1), W = D^-1 A.
//
// The adjoints b_k = c_k grad + s_k W^T b_(k+1) - r_(k+1) b_(k+2) are b_k = D q_k with the same operator:
// q_k = c_k D^-1 grad + s_k W q_(k+1) - r_(k+1) q_(k+2). The gradient of the seeds is D q_0, so without the boundary
// it is D series(W) D^-1 grad. With the boundary, A_ij of a pair receives s_k (q_(k+1),i t_k,j + q_(k+1),j t_k,i) for
// every k, and the degree d_i, of which A_ij is a part, -q_(k+1),i (s_k W t_k)_i. The terms t_k are kept at every S-th
// k, S = walk_segment(degree), and made again from there.
#include <algorithm>
#include <cmath>
#include <vector>

#include "common/channel_table.h"
#include "common/parallel.h"
#include "cpu/path_rows.h"
#include "cpu/random_walk_stencil.h"

namespace wsis {
namespace {

constexpr int64_t kGroup = 8;  // channels whose terms are kept at a time, where memory allows
constexpr int64_t kTermValues = int64_t(1) << 26;

// About 4 sqrt(degree) planes are kept per channel.
int64_t channels_at_once(const Plane& plane, const WalkSeries& series) {
  const double planes = 4 * std::sqrt(static_cast<double>(series.degree())) + 8;
  const double fit = static_cast<double>(kTermValues) / (planes * static_cast<double>(plane.size()));
  return std::clamp<int64_t>(static_cast<int64_t>(fit), 1, kGroup);
}

// Where the terms and adjoints of a segment lie for one row: entry (i, c, x) at i term + c channel + x.
struct Strides {
  int64_t terms, channels, columns, term, channel;
};

// grad[x] += sum over terms and channels of scale (q(x) t(x + far) + q(x + far) t(x)); `columns` is a multiple of 16.
template <class T>
inline __attribute__((always_inline)) void add_pairs(const T* t, const T* q, int64_t far, const T* scales,
                                                     const Strides& n, T* RESTRICT grad) {
  constexpr int64_t kLanes = 16;
  static_assert(kRowMultiple % kLanes == 0);
  for (int64_t x = 0; x < n.columns; x += kLanes) {
    T sum[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) sum[l] = grad[x + l];
    for (int64_t i = 0; i < n.terms; ++i)
      for (int64_t c = 0; c < n.channels; ++c) {
        const int64_t at = i * n.term + c * n.channel + x;
        const T *u = q + at, *v = t + at;
        for (int64_t l = 0; l < kLanes; ++l) sum[l] += scales[i] * (u[l] * v[far + l] + u[far + l] * v[l]);
      }
    for (int64_t l = 0; l < kLanes; ++l) grad[x + l] = sum[l];
  }
}

CPU_CLONES void add_pairs_row(const float* t, const float* q, int64_t far, const float* scales, const Strides& n,
                              float* RESTRICT grad) {
  add_pairs(t, q, far, scales, n, grad);
}

CPU_CLONES void add_pairs_row(const double* t, const double* q, int64_t far, const double* scales, const Strides& n,
                              double* RESTRICT grad) {
  add_pairs(t, q, far, scales, n, grad);
}

// Planes of a group of channels at consecutive k.
template <class T>
struct Terms {
  int64_t group_size;  // values of one k
  Buffer<T> values;

  Terms(int64_t terms, int64_t size) : group_size(size), values(terms * size, T(0)) {}
  T* at(int64_t i) { return values.data() + i * group_size; }
  const T* at(int64_t i) const { return values.data() + i * group_size; }
  void copy(int64_t from, int64_t to) { std::copy_n(at(from), group_size, at(to)); }
};

// One image: its stencil, the gradient of its edge weights [h, P, pitch] and of its degrees.
template <class T>
struct ImageGradient {
  const Stencil<T>& stencil;
  const WalkSeries& series;
  Buffer<T> grad_weights, grad_degree;

  ImageGradient(const Stencil<T>& s, const WalkSeries& polynomial)
      : stencil(s),
        series(polynomial),
        grad_weights(s.plane.h * s.offsets() * s.plane.pitch, T(0)),
        grad_degree(s.plane.size(), T(0)) {}

  T* weights(int64_t y, int64_t p) {
    return grad_weights.data() + stencil.plane.margin + (y * stencil.offsets() + p) * stencil.plane.pitch;
  }

  // next = s_k W now - previous_scale next; no sum is kept.
  void advance(const T* now, T* next, int64_t channels, double scale, double previous_scale) const {
    walk_term(stencil, now, next, next, channels, stencil.plane.size(), {scale, previous_scale, 0.0});
  }

  void backward(Terms<T>& seeds_and_grad, int64_t channels);
  void add_segment(const Terms<T>& t, const Terms<T>& q, int64_t first_k, int64_t count, int64_t channels);
  void to_boundary(const T* boundary, int64_t stride, double beta, T* grad_boundary);
};

// group: plane set 0 holds the seeds, 1 holds D^-1 grad; on return 1 holds q_0. Adds to the gradients of weights and
// degrees.
template <class T>
void ImageGradient<T>::backward(Terms<T>& group, int64_t channels) {
  const int64_t K = series.degree(), size = group.group_size;
  const int64_t S = walk_segment(K), segments = (K + S - 1) / S;
  Terms<T> kept(2 * std::max<int64_t>(1, segments), size), t(S + 2, size), q(S + 2, size);
  std::copy_n(group.at(0), size, t.at(1));
  for (int64_t k = 0; k < K; ++k) {  // slots 0 and 1 hold t_(k-1) and t_k
    if (k % S == 0) {
      std::copy_n(t.at(0), size, kept.at(2 * (k / S)));
      std::copy_n(t.at(1), size, kept.at(2 * (k / S) + 1));
    }
    advance(t.at(1), t.at(0), channels, series.scale(k), series.previous_scale(k));
    std::swap_ranges(t.at(0), t.at(0) + size, t.at(1));
  }
  const auto add_source = [&](int64_t k, T* to) {
    const T c = static_cast<T>(series.coefficients[k]);
    if (c != T(0))
      for (int64_t i = 0; i < size; ++i) to[i] += c * group.at(1)[i];
  };
  const int64_t last_count = K - (segments - 1) * S;
  if (K > 0) add_source(K, q.at(last_count));
  for (int64_t segment = segments - 1; segment >= 0; --segment) {
    const int64_t first = segment * S, count = std::min(S, K - first);
    std::copy_n(kept.at(2 * segment), size, t.at(0));
    std::copy_n(kept.at(2 * segment + 1), size, t.at(1));
    for (int64_t i = 0; i < count; ++i) {  // t slot i + 1 holds t_(first + i)
      t.copy(i, i + 2);
      advance(t.at(i + 1), t.at(i + 2), channels, series.scale(first + i), series.previous_scale(first + i));
    }
    for (int64_t i = count - 1; i >= 0; --i) {  // q slot i holds q_(first + i)
      q.copy(i + 2, i);
      advance(q.at(i + 1), q.at(i), channels, series.scale(first + i), series.chebyshev ? 1.0 : 0.0);
      add_source(first + i, q.at(i));
    }
    add_segment(t, q, first, count, channels);
    if (segment > 0) {
      q.copy(1, S + 1);
      q.copy(0, S);
    }
  }
  if (K == 0) add_source(0, q.at(0));
  std::copy_n(q.at(0), size, group.at(1));
}

template <class T>
void ImageGradient<T>::add_segment(const Terms<T>& t, const Terms<T>& q, int64_t first_k, int64_t count,
                                   int64_t channels) {
  const Plane& plane = stencil.plane;
  const Strides strides{count, channels, plane.columns, t.group_size, plane.size()};
  std::vector<T> scales(count);
  for (int64_t i = 0; i < count; ++i) scales[i] = static_cast<T>(series.scale(first_k + i));
  parallel_for(0, plane.h, 8, [&](int64_t begin, int64_t end) {
    for (int64_t y = begin; y < end; ++y) {
      for (int64_t p = 0; p < stencil.offsets(); ++p) {
        const Cell o = stencil.offset(p);
        if (y + o.dy < plane.h)
          add_pairs_row(t.at(1) + plane.at(y), q.at(1) + plane.at(y), o.dy * plane.pitch + o.dx, scales.data(),
                        strides, weights(y, p));
      }
      T* degree = grad_degree.data() + plane.at(y);
      for (int64_t i = 0; i < count; ++i) {
        const T previous_scale = static_cast<T>(series.previous_scale(first_k + i));
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t here = c * plane.size() + plane.at(y);
          const T *before = t.at(i) + here, *after = t.at(i + 2) + here, *adjoint = q.at(i + 1) + here;
          for (int64_t x = 0; x < plane.w; ++x) degree[x] -= adjoint[x] * (after[x] + previous_scale * before[x]);
        }
      }
    }
  });
}

// Through degrees, power and path maximum; grad_boundary rows are `stride` apart.
template <class T>
void ImageGradient<T>::to_boundary(const T* boundary, int64_t stride, double beta, T* grad_boundary) {
  const Plane& plane = stencil.plane;
  const PathView paths = view(stencil.paths);
  const Buffer<T> padded = padded_copy(boundary, stride, plane);
  Buffer<T> grad_affinity(stencil.offsets() * plane.h * plane.w);
  parallel_for(0, plane.h, 8, [&](int64_t begin, int64_t end) {
    Buffer<T> affinity(plane.columns);
    for (int64_t y = begin; y < end; ++y)
      for (int64_t p = 0; p < stencil.offsets(); ++p) {
        const int place = stencil.order[p];
        const Cell o = stencil.offset(p);
        affinity_row(padded.data(), plane, y, paths.path(place), paths.length(place), o, affinity.data());
        T* row = grad_affinity.data() + (place * plane.h + y) * plane.w;
        std::fill_n(row, plane.w, T(0));
        const Span span = pair_span(plane, y, o);
        const T *degree = grad_degree.data() + plane.at(y), *far = degree + o.dy * plane.pitch + o.dx;
        for (int64_t x = span.first; x < span.last; ++x)
          row[x] = (weights(y, p)[x] + degree[x] + far[x]) * edge_weight_derivative(affinity.data()[x], beta);
      }
  });
  const int64_t rows = std::max<int64_t>(8, (plane.h + num_threads() - 1) / num_threads());
  parallel_for(0, (plane.h + rows - 1) / rows, 1, [&](int64_t begin, int64_t end) {
    path_gradient_rows(grad_affinity.data(), padded.data(), plane, paths, begin * rows,
                       std::min(plane.h, end * rows), grad_boundary, stride);
  });
}

// All channels of one image.
template <class T>
void backward_image(const T* grad, const T* seeds, const T* boundary, const int64_t* channels, int64_t count,
                    const Stencil<T>& stencil, T* grad_seeds, T* grad_boundary, const WalkShape& shape, double beta,
                    const WalkSeries& series) {
  const Plane& plane = stencil.plane;
  ImageGradient<T> image(stencil, series);
  const int64_t at_once = channels_at_once(plane, series);
  for (int64_t done = 0; done < count; done += at_once) {
    const int64_t group = std::min(at_once, count - done);
    Terms<T> terms(2, group * plane.size());
    for (int64_t c = 0; c < group; ++c)
      for (int64_t y = 0; y < plane.h; ++y) {
        const int64_t from = (channels[done + c] * shape.H + y) * shape.W, to = c * plane.size() + plane.at(y);
        std::copy_n(seeds + from, plane.w, terms.at(0) + to);
        for (int64_t x = 0; x < plane.w; ++x)
          terms.at(1)[to + x] = grad[from + x] * stencil.inverse_degree(y)[x];
      }
    image.backward(terms, group);
    for (int64_t c = 0; c < group; ++c)
      for (int64_t y = 0; y < plane.h; ++y)
        for (int64_t x = 0; x < plane.w; ++x)
          grad_seeds[(channels[done + c] * shape.H + y) * shape.W + x] =
              terms.at(1)[c * plane.size() + plane.at(y) + x] / stencil.inverse_degree(y)[x];
  }
  image.to_boundary(boundary, shape.W, beta, grad_boundary);
}

}  // namespace

template <class T>
void random_walk_backward_cpu(const T* grad, const T* seeds, const T* boundary, const int64_t* image_index,
                              const int32_t* sizes, T* grad_seeds, T* grad_boundary, const WalkShape& shape,
                              double beta, const WalkSeries& series) {
  const int64_t area = shape.H * shape.W;
  if (sizes) std::fill_n(grad_seeds, shape.M * area, T(0));
  std::fill_n(grad_boundary, shape.B * area, T(0));
  const ChannelTable table(image_index, shape.M, shape.B);
  parallel_for_uneven(0, shape.B, shape.B >= num_threads() ? 1 : shape.B, [&](Pieces& pieces) {
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t b = begin; b < end; ++b) {
        const int64_t start = table.start[b], count = table.start[b + 1] - start;
        const int64_t h = sizes ? sizes[2 * b] : shape.H, w = sizes ? sizes[2 * b + 1] : shape.W;
        if (count == 0 || h == 0 || w == 0) continue;
        const Stencil<T> stencil(boundary + b * area, shape.W, h, w, shape.radius, beta);
        backward_image(grad, seeds, boundary + b * area, table.channels.data() + start, count, stencil, grad_seeds,
                       grad_boundary + b * area, shape, beta, series);
      }
  });
}

template void random_walk_backward_cpu(const float*, const float*, const float*, const int64_t*, const int32_t*, float*,
                                       float*, const WalkShape&, double, const WalkSeries&);
template void random_walk_backward_cpu(const double*, const double*, const double*, const int64_t*, const int32_t*,
                                       double*, double*, const WalkShape&, double, const WalkSeries&);

}  // namespace wsis
