#include "common/dense_crf.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "common/parallel.h"
#include "cpu/permutohedral.h"

namespace wsis {
namespace {

constexpr int kLanes = kNormPadding;  // pixels of one softmax block
constexpr int64_t kGrain = 8192;  // pixels or vertices a thread takes at least when an image is split

// Size of an image, and of the padded planes that hold it.
struct Shape {
  int64_t h, w, H, W;
};

// kLanes pixels; the softmax runs over pixels, so it wants planes, while the lattices want rows.
struct Block {
  std::vector<float> filtered[2], assigned;  // [width][kLanes]
  std::vector<float> rows;                  // [kLanes, width]
  explicit Block(int width) : assigned(static_cast<size_t>(width * kLanes), 0.0f), rows(assigned) {
    filtered[0] = filtered[1] = assigned;
  }
};

// What one kernel adds to the logits of a block: weight * (norm * filtered).
struct Message {
  const float* filtered;  // [channels][kLanes]
  const float* norm;      // [kLanes]
  float weight;
};

// Softmax of -U + F1 + F2 over the labels of one set, for a block of pixels. labels [kLanes].
CPU_CLONES void soft_assign(const Message& spatial, const Message& bilateral, const uint8_t* labels, int num_labels,
                            float on, float off, float* assigned) {
  float best[kLanes], sum[kLanes];
  for (int i = 0; i < kLanes; ++i) best[i] = -3.0e38f, sum[i] = 0.0f;
  for (int l = 0; l < num_labels; ++l)
    for (int i = 0; i < kLanes; ++i) {
      const int at = l * kLanes + i;
      const float logit = ((labels[i] == l ? on : off) + spatial.weight * (spatial.filtered[at] * spatial.norm[i])) +
                          bilateral.weight * (bilateral.filtered[at] * bilateral.norm[i]);
      assigned[at] = logit;
      best[i] = logit > best[i] ? logit : best[i];
    }
  for (int l = 0; l < num_labels; ++l)
    for (int i = 0; i < kLanes; ++i) {
      const int at = l * kLanes + i;
      assigned[at] = crf_exp(assigned[at] - best[i]);
      sum[i] += assigned[at];
    }
  for (int l = 0; l < num_labels; ++l)
    for (int i = 0; i < kLanes; ++i) assigned[l * kLanes + i] /= sum[i];
}

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
typedef int FourIndices __attribute__((vector_size(16)));

// in [4 rows at a distance of in_stride] -> out, transposed.
inline __attribute__((always_inline)) void transpose4(const float* in, int in_stride, float* out, int out_stride) {
  const auto row = [&](int i) { return *reinterpret_cast<const Four*>(in + i * in_stride); };
  const Four a = row(0), b = row(1), c = row(2), d = row(3);
  const FourIndices low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
  const Four ab = __builtin_shuffle(a, b, low), ab_high = __builtin_shuffle(a, b, high);
  const Four cd = __builtin_shuffle(c, d, low), cd_high = __builtin_shuffle(c, d, high);
  const Four columns[4] = {__builtin_shuffle(ab, cd, first), __builtin_shuffle(ab, cd, second),
                           __builtin_shuffle(ab_high, cd_high, first), __builtin_shuffle(ab_high, cd_high, second)};
  for (int i = 0; i < 4; ++i) *reinterpret_cast<Four*>(out + i * out_stride) = columns[i];
}

// rows [kLanes, width] -> planes [width][kLanes]
void rows_to_planes(const float* rows, int width, float* planes) {
  for (int c = 0; c < width; c += 4)
    for (int i = 0; i < kLanes; i += 4) transpose4(rows + i * width + c, width, planes + c * kLanes + i, kLanes);
}

void planes_to_rows(const float* planes, int width, float* rows) {
  for (int i = 0; i < kLanes; i += 4)
    for (int c = 0; c < width; c += 4) transpose4(planes + c * kLanes + i, kLanes, rows + i * width + c, width);
}

class MeanField {
 public:
  MeanField(const CrfGroup& group, const Shape& shape, const Lattice& spatial, const Lattice& bilateral,
            const CrfOptions& options, bool split)
      : group_(group), shape_(shape), options_(options), split_(split), pixels_(shape.h * shape.w) {
    kernels_[0] = {&spatial, options.spatial_weight, {}, {}};
    kernels_[1] = {&bilateral, options.bilateral_weight, {}, {}};
    for (Kernel& kernel : kernels_) {
      const size_t size = static_cast<size_t>(kernel.lattice->vertices * group.width);
      assign_large(kernel.values, size, 0.0f);
      if (!split) assign_large(kernel.next, size, 0.0f);
    }
    if (split) rows_.assign(static_cast<size_t>(pixels_ * group.width), 0.0f);
  }

  void run() {
    for (int step = 0; step <= options_.steps; ++step) {
      const bool first = step == 0, last = step == options_.steps;
      if (split_) {
        parallel_for(0, blocks(), kGrain / kLanes, [&](int64_t b, int64_t e) { assign(b, e, first, last); });
        if (!last) filter_split();
      } else {
        assign(0, blocks(), first, last);
        if (!last) filter();
      }
    }
  }

 private:
  struct Kernel {
    const Lattice* lattice;
    float weight;
    std::vector<float> values, next;  // [vertices, width]: blurred, and being splatted
  };

  int64_t blocks() const { return (pixels_ + kLanes - 1) / kLanes; }

  // Slices, takes the softmax and hands the result on: to the lattices (`next`), to rows_ when split, or, in the
  // last step, to the outputs. Blocks of kLanes pixels.
  void assign(int64_t begin, int64_t end, bool first, bool last) {
    const int width = group_.width;
    Block block(width);
    uint8_t labels[kLanes] = {};
    for (int64_t b = begin; b < end; ++b) {
      const int64_t p = b * kLanes;
      const int count = static_cast<int>(std::min<int64_t>(kLanes, pixels_ - p));
      for (int f = 0; f < 2 && !first; ++f) {
        slice(*kernels_[f].lattice, p, count, kernels_[f].values.data(), width, block.rows.data());
        rows_to_planes(block.rows.data(), width, block.filtered[f].data());
      }
      for (const CrfSet& set : group_.sets) {
        copy_labels(set, p, count, labels);
        const int at = set.channel * kLanes;
        const auto message = [&](int f) {
          return Message{block.filtered[f].data() + at, kernels_[f].lattice->norm.data() + p, kernels_[f].weight};
        };
        soft_assign(message(0), message(1), labels, set.num_labels, set.unary.on, set.unary.off,
                    block.assigned.data() + at);
        if (last) write(set, p, count, block.assigned.data() + at);
      }
      if (last) continue;
      planes_to_rows(block.assigned.data(), width, block.rows.data());
      if (split_) {
        std::copy_n(block.rows.data(), count * width, rows_.data() + p * width);
        continue;
      }
      for (Kernel& kernel : kernels_)
        splat(*kernel.lattice, p, count, block.rows.data(), width, kernel.next.data());
    }
  }

  void copy_labels(const CrfSet& set, int64_t p, int count, uint8_t* labels) const {
    if (shape_.w == shape_.W && count == kLanes)
      std::memcpy(labels, set.labels + p, kLanes);
    else
      for (int i = 0; i < count; ++i) labels[i] = set.labels[plane_index(p + i)];
  }

  int64_t plane_index(int64_t pixel) const {
    return shape_.w == shape_.W ? pixel : pixel / shape_.w * shape_.W + pixel % shape_.w;
  }

  void write(const CrfSet& set, int64_t p, int count, const float* assigned) const {
    for (int i = 0; i < count; ++i) {
      const int64_t at = plane_index(p + i);
      int best = 0;
      for (int l = 0; l < set.num_labels; ++l) {
        if (assigned[l * kLanes + i] > assigned[best * kLanes + i]) best = l;
        if (set.marginals) set.marginals[l * shape_.H * shape_.W + at] = assigned[l * kLanes + i];
      }
      if (set.refined) set.refined[at] = static_cast<uint8_t>(best);
    }
  }

  void filter() {
    for (Kernel& kernel : kernels_) {
      kernel.values.swap(kernel.next);
      std::fill(kernel.next.begin(), kernel.next.end(), 0.0f);
      for (int axis = 0; axis < kernel.lattice->corners; ++axis)
        blur_axis(*kernel.lattice, axis, 0, run_length(kernel, axis), group_.width, kernel.values.data());
    }
  }

  void filter_split() {
    for (Kernel& kernel : kernels_) {
      const Lattice& lattice = *kernel.lattice;
      float* values = kernel.values.data();
      parallel_for(0, lattice.vertices, kGrain / 16, [&](int64_t b, int64_t e) {
        splat_vertices(lattice, b, e, rows_.data(), group_.width, values);
      });
      for (int axis = 0; axis < lattice.corners; ++axis)
        parallel_for(0, run_length(kernel, axis), kGrain, [&](int64_t b, int64_t e) {
          blur_axis(lattice, axis, b, e, group_.width, values);
        });
    }
  }

  static int64_t run_length(const Kernel& kernel, int axis) {
    return static_cast<int64_t>(kernel.lattice->runs[static_cast<size_t>(axis)].size());
  }

  const CrfGroup& group_;
  const Shape shape_;
  const CrfOptions& options_;
  const bool split_;
  const int64_t pixels_;
  Kernel kernels_[2];
  std::vector<float> rows_;  // [pixels, width], when split
};

using Size = std::pair<int, int>;

void clear_outputs(const CrfData& data) {
  const int64_t plane = data.H * data.W;
  if (data.refined) std::fill_n(data.refined, data.S * plane, uint8_t{0});
  if (!data.marginals) return;
  std::fill_n(data.marginals, data.S * data.max_labels * plane, 0.0f);
  for (int64_t s = 0; s < data.S; ++s) {
    const int64_t b = data.image_index[s];
    if (data.num_labels[s] > 1) continue;
    for (int64_t y = 0; y < data.height(b); ++y)
      std::fill_n(data.marginals + s * data.max_labels * plane + y * data.W, data.width(b), 1.0f);
  }
}

}  // namespace

void dense_crf_cpu(const CrfData& data, const CrfOptions& options) {
  clear_outputs(data);
  const auto groups = group_sets(data, options.gt_prob);
  std::vector<int64_t> todo;        // images that have something to refine
  std::map<Size, Lattice> spatial;  // the same for all images of one size
  const auto size_of = [&](int64_t b) { return Size{data.height(b), data.width(b)}; };
  for (int64_t b = 0; b < data.B; ++b)
    if (!groups[static_cast<size_t>(b)].empty()) {
      todo.push_back(b);
      spatial.try_emplace(size_of(b));
    }
  const int64_t count = static_cast<int64_t>(todo.size());
  const bool split = num_threads() > 1 && count < num_threads();

  std::vector<std::pair<const Size, Lattice>*> sized;
  for (auto& entry : spatial) sized.push_back(&entry);
  parallel_for(0, static_cast<int64_t>(sized.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      auto& [size, lattice] = *sized[static_cast<size_t>(i)];
      lattice = build_spatial_lattice({nullptr, 0, 0, size.first, size.second}, options.spatial_sxy, split);
    }
  });

  const auto refine_image = [&](int64_t b) {
    const auto [h, w] = size_of(b);
    const int64_t plane = data.H * data.W;
    const PixelSource source{data.images + b * 3 * plane, plane, data.W, h, w};
    const Lattice bilateral =
        build_bilateral_lattice(source, options.bilateral_sxy, options.bilateral_srgb, split);
    for (const CrfGroup& group : groups[static_cast<size_t>(b)])
      MeanField(group, {h, w, data.H, data.W}, spatial.at({h, w}), bilateral, options, split).run();
  };
  if (split) {
    for (const int64_t b : todo) refine_image(b);
    return;
  }
  parallel_for_uneven(0, count, 1, [&](Pieces& pieces) {
    for (int64_t begin, end; pieces.take(begin, end);)
      for (int64_t i = begin; i < end; ++i) refine_image(todo[static_cast<size_t>(i)]);
  });
}

}  // namespace wsis
