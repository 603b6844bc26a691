#include "common/random_walk.h"

#include <algorithm>

#include "common/channel_table.h"
#include "common/parallel.h"
#include "cpu/random_walk_stencil.h"

namespace wsis {
namespace {


// The three planes per channel that the recurrence needs.
template <class T>
struct Walk {
  const Stencil<T>& stencil;
  const int64_t count, plane_size;
  Buffer<T> current, previous, sum;

  Walk(const Stencil<T>& s, int64_t channels)
      : stencil(s),
        count(channels),
        plane_size(s.plane.size()),
        current(channels * plane_size, T(0)),
        previous(channels * plane_size, T(0)),
        sum(channels * plane_size) {}

  // sum = series(D^-1 A) current
  void run(const WalkSeries& series) {
    const std::vector<double>& c = series.coefficients;
    for (int64_t i = 0; i < count * plane_size; ++i) sum.data()[i] = static_cast<T>(c[0]) * current.data()[i];
    for (int64_t k = 0; k < series.degree(); ++k) {
      walk_term(stencil, current.data(), previous.data(), sum.data(), count, plane_size,
                {series.scale(k), series.previous_scale(k), c[k + 1]});
      std::swap(current, previous);
    }
  }
};

// The walk series(W) x or, transposed, its gradient D series(W) D^-1 x.
enum class Direction { kForward, kTransposed };

template <class T>
void walk_channels(const Stencil<T>& stencil, const T* seeds, T* walked, const int64_t* channels, int64_t count,
                   const WalkShape& shape, const WalkSeries& series, Direction direction) {
  const Plane& plane = stencil.plane;
  Walk<T> walk(stencil, count);
  const auto for_rows = [&](auto&& f) {
    for (int64_t c = 0; c < count; ++c)
      for (int64_t y = 0; y < plane.h; ++y)
        f((channels[c] * shape.H + y) * shape.W, c * walk.plane_size + plane.at(y), stencil.inverse_degree(y));
  };
  for_rows([&](int64_t outer, int64_t inner, const T* inverse) {
    T* row = walk.current.data() + inner;
    for (int64_t x = 0; x < plane.w; ++x)
      row[x] = direction == Direction::kForward ? seeds[outer + x] : seeds[outer + x] * inverse[x];
  });
  walk.run(series);
  for_rows([&](int64_t outer, int64_t inner, const T* inverse) {
    const T* row = walk.sum.data() + inner;
    for (int64_t x = 0; x < plane.w; ++x)
      walked[outer + x] = direction == Direction::kForward ? row[x] : row[x] / inverse[x];
  });
}

// Channels that walk together: all that fit, or an equal share for each thread when threads would idle. They never
// meet, so that costs one hand-over per image, not one per term.
int64_t channels_per_task(int64_t count, int64_t threads) {
  return std::min(kMaxChannels, (count + threads - 1) / threads);
}

template <class T>
void walk_images(const T* seeds, const T* boundary, const int64_t* image_index, const int32_t* sizes, T* walked,
                 const WalkShape& shape, double beta, const WalkSeries& series, Direction direction) {
  if (sizes) std::fill(walked, walked + shape.M * shape.H * shape.W, T(0));
  const ChannelTable table(image_index, shape.M, shape.B);
  const int64_t threads = shape.B >= num_threads() ? 1 : num_threads();
  parallel_for_uneven(0, shape.B, threads == 1 ? 1 : shape.B, [&](Pieces& pieces) {
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t b = begin; b < end; ++b) {
        const int64_t start = table.start[b], count = table.start[b + 1] - start;
        const int64_t h = sizes ? sizes[2 * b] : shape.H, w = sizes ? sizes[2 * b + 1] : shape.W;
        if (count == 0 || h == 0 || w == 0) continue;
        const Stencil<T> stencil(boundary + b * shape.H * shape.W, shape.W, h, w, shape.radius, beta);
        const int64_t share = channels_per_task(count, threads);
        parallel_for(0, (count + share - 1) / share, 1, [&](int64_t first, int64_t last) {
          for (int64_t c = first * share; c < std::min(count, last * share); c += share)
            walk_channels(stencil, seeds, walked, table.channels.data() + start + c, std::min(share, count - c), shape,
                          series, direction);
        });
      }
  });
}

}  // namespace

template <class T>
void random_walk_cpu(const T* seeds, const T* boundary, const int64_t* image_index, const int32_t* sizes, T* walked,
                     const WalkShape& shape, double beta, const WalkSeries& series) {
  walk_images(seeds, boundary, image_index, sizes, walked, shape, beta, series, Direction::kForward);
}

template <class T>
void random_walk_transposed_cpu(const T* grad, const T* boundary, const int64_t* image_index, const int32_t* sizes,
                                T* grad_seeds, const WalkShape& shape, double beta, const WalkSeries& series) {
  walk_images(grad, boundary, image_index, sizes, grad_seeds, shape, beta, series, Direction::kTransposed);
}

#define WSIS_INSTANTIATE(name, T) \
  template void name(const T*, const T*, const int64_t*, const int32_t*, T*, const WalkShape&, double, \
                     const WalkSeries&);
WSIS_INSTANTIATE(random_walk_cpu, float)
WSIS_INSTANTIATE(random_walk_cpu, double)
WSIS_INSTANTIATE(random_walk_transposed_cpu, float)
WSIS_INSTANTIATE(random_walk_transposed_cpu, double)

}  // namespace wsis
