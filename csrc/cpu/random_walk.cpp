#include "common/random_walk.h"

#include <algorithm>

#include "common/parallel.h"
#include "cpu/random_walk_stencil.h"

namespace wsis {
namespace {

constexpr int64_t kChannelsAtOnce = 32;  // bounds the working memory of an image with very many channels
constexpr int64_t kPixelsPerTask = 2048;  // times channels: below it a second thread costs more than it gives

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
        current(channels * plane_size),
        previous(channels * plane_size),
        sum(channels * plane_size) {}

  void step(const Term& term) {
    const Plane& plane = stencil.plane;
    const int64_t rows = std::max<int64_t>(1, kPixelsPerTask / std::max<int64_t>(1, plane.w * count));
    parallel_for(0, plane.h, rows, [&](int64_t begin, int64_t end) {
      walk_rows(stencil, current.data(), previous.data(), sum.data(), count, plane_size, term, begin, end);
    });
    std::swap(current, previous);
  }

  // sum = series(D^-1 A) current
  void run(const WalkSeries& series) {
    const std::vector<double>& c = series.coefficients;
    for (int64_t i = 0; i < count * plane_size; ++i) sum.data()[i] = static_cast<T>(c[0]) * current.data()[i];
    for (int64_t k = 1; k <= series.degree(); ++k) {
      const bool two_terms = series.chebyshev && k > 1;
      step({two_terms ? 2.0 : 1.0, two_terms ? 1.0 : 0.0, c[k]});
    }
  }
};

// The channels of each image, in order: entries of `channels` from start[b] to start[b + 1].
struct ChannelTable {
  std::vector<int64_t> start, channels;

  ChannelTable(const int64_t* image_index, const WalkShape& shape) : start(shape.B + 1, 0), channels(shape.M) {
    for (int64_t m = 0; m < shape.M; ++m) ++start[image_index[m] + 1];
    for (int64_t b = 0; b < shape.B; ++b) start[b + 1] += start[b];
    std::vector<int64_t> next(start.begin(), start.end() - 1);
    for (int64_t m = 0; m < shape.M; ++m) channels[next[image_index[m]]++] = m;
  }
};

template <class T>
void walk_image(const T* seeds, const T* boundary, const int64_t* channels, int64_t count, int64_t h, int64_t w,
                T* walked, const WalkShape& shape, double beta, const WalkSeries& series) {
  const Stencil<T> stencil(boundary, shape.W, h, w, shape.radius, beta);
  const Plane& plane = stencil.plane;
  for (int64_t done = 0; done < count; done += kChannelsAtOnce) {
    Walk<T> walk(stencil, std::min(kChannelsAtOnce, count - done));
    for (int64_t c = 0; c < walk.count; ++c)
      for (int64_t y = 0; y < h; ++y)
        std::copy_n(seeds + (channels[done + c] * shape.H + y) * shape.W, w,
                    walk.current.data() + c * walk.plane_size + plane.at(y));
    walk.run(series);
    for (int64_t c = 0; c < walk.count; ++c)
      for (int64_t y = 0; y < h; ++y)
        std::copy_n(walk.sum.data() + c * walk.plane_size + plane.at(y), w,
                    walked + (channels[done + c] * shape.H + y) * shape.W);
  }
}

}  // namespace

template <class T>
void random_walk_cpu(const T* seeds, const T* boundary, const int64_t* image_index, const int32_t* sizes, T* walked,
                     const WalkShape& shape, double beta, const WalkSeries& series) {
  if (sizes) std::fill(walked, walked + shape.M * shape.H * shape.W, T(0));
  const ChannelTable table(image_index, shape);
  parallel_for(0, shape.B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t count = table.start[b + 1] - table.start[b];
      const int64_t h = sizes ? sizes[2 * b] : shape.H, w = sizes ? sizes[2 * b + 1] : shape.W;
      if (count == 0 || h == 0 || w == 0) continue;
      walk_image(seeds, boundary + b * shape.H * shape.W, table.channels.data() + table.start[b], count, h, w, walked,
                 shape, beta, series);
    }
  });
}

template void random_walk_cpu(const float*, const float*, const int64_t*, const int32_t*, float*, const WalkShape&,
                              double, const WalkSeries&);
template void random_walk_cpu(const double*, const double*, const int64_t*, const int32_t*, double*, const WalkShape&,
                              double, const WalkSeries&);

}  // namespace wsis
