#include "common/dense_crf.h"

#include <algorithm>

#include "common/cuda_launch.h"
#include "cuda/permutohedral.cuh"

namespace wsis {
namespace {

// The label maps of a group, by value in the kernel's parameters.
struct SetTable {
  CrfSet sets[kMaxCrfSets];
};

// What a kernel needs of one filter.
struct Filtered {
  const int32_t* ids;    // [pixels, D + 1]
  const float* weights;  // [pixels, D + 1]
  const float* norm;     // [pixels]
  const float* values;   // [vertices, width]
  float weight;
};

template <int D>
Filtered filtered(const DeviceLattice<D>& lattice, const float* values, float weight) {
  return {lattice.ids, lattice.weights, lattice.norm, values, weight};
}

template <int D>
__device__ __forceinline__ float message(const Filtered& f, int64_t p, int width, int channel) {
  const int64_t e = p * (D + 1);
  return f.weight * (slice_at<D>(f.ids + e, f.weights + e, f.values, width, channel) * f.norm[p]);
}

struct Step {
  Filtered spatial, bilateral;
  float* rows;  // [pixels, width]
  int64_t pixels;
  int width;
  int w;            // of the image
  int64_t stride;   // of the padded planes
  int64_t plane;    // pixels of a padded plane
  bool first, last;
};

// One thread takes one pixel of one label map (blockIdx.y): slices, softmax, and the most probable label at the end.
// Up to kMax labels stay in registers; kMax = 0 keeps any number in the thread's own part of `rows`.
template <int kMax>
__global__ void __launch_bounds__(kLatticeBlock)
    assign_kernel(const __grid_constant__ SetTable table, const __grid_constant__ Step step) {
  const int64_t p = int64_t(blockIdx.x) * kLatticeBlock + threadIdx.x;
  if (p >= step.pixels) return;
  const CrfSet& set = table.sets[blockIdx.y];
  const int y = static_cast<int>(p) / step.w, x = static_cast<int>(p) % step.w;
  const int64_t at = y * step.stride + x;
  const int label = set.labels[at], n = set.num_labels, most = kMax ? kMax : n;
  float* row = step.rows + p * step.width + set.channel;
  float local[kMax ? kMax : 1];
  float* q = kMax ? local : row;

  float best = -3.0e38f;
#pragma unroll
  for (int l = 0; l < most; ++l) {
    if (kMax && l >= n) break;
    float logit = label == l ? set.unary.on : set.unary.off;
    if (!step.first)
      logit = (logit + message<2>(step.spatial, p, step.width, set.channel + l)) +
              message<5>(step.bilateral, p, step.width, set.channel + l);
    q[l] = logit;
    best = logit > best ? logit : best;
  }
  float sum = 0;
#pragma unroll
  for (int l = 0; l < most; ++l) {
    if (kMax && l >= n) break;
    q[l] = crf_exp(q[l] - best);
    sum += q[l];
  }
  float highest = -1;
  int winner = 0;
#pragma unroll
  for (int l = 0; l < most; ++l) {
    if (kMax && l >= n) break;
    const float share = q[l] / sum;
    row[l] = share;
    if (share > highest) {
      highest = share;
      winner = l;
    }
    if (step.last && set.marginals) set.marginals[l * step.plane + at] = share;
  }
  if (step.last && set.refined) set.refined[at] = static_cast<uint8_t>(winner);
}

// Maps with one label: probability 1 inside the image.
__global__ void __launch_bounds__(kLatticeBlock) ones_kernel(float* marginals, int64_t pixels, int w, int64_t stride) {
  const int64_t p = int64_t(blockIdx.x) * kLatticeBlock + threadIdx.x;
  if (p < pixels) marginals[p / w * stride + p % w] = 1.0f;
}

// The arrays of a call: made for the largest image and the widest group, used by one image after the other.
struct Buffers {
  DeviceLattice<2> spatial;
  DeviceLattice<5> bilateral;
  float* rows;

  Buffers(Workspace& workspace, int64_t pixels, int width)
      : spatial(workspace, pixels, width),
        bilateral(workspace, pixels, width),
        rows(workspace.take<float>(pixels * width)) {}
};

struct Extent {
  int64_t pixels = 0;
  int width = 4;
};

Extent largest(const CrfData& data, const std::vector<std::vector<CrfGroup>>& images) {
  Extent extent;
  for (int64_t b = 0; b < data.B; ++b)
    for (const CrfGroup& group : images[static_cast<size_t>(b)]) {
      extent.pixels = std::max(extent.pixels, int64_t{data.height(b)} * data.width(b));
      extent.width = std::max(extent.width, group.width);
    }
  return extent;
}

void mean_field(const CrfGroup& group, const DevicePixels& source, const Buffers& buffers, const CrfOptions& options,
                LaunchChain& launch) {
  SetTable table{};
  std::copy(group.sets.begin(), group.sets.end(), table.sets);
  const int64_t pixels = int64_t{source.h} * source.w;
  Step step{{}, {}, buffers.rows, pixels, group.width, source.w, source.stride, source.plane, true, false};
  launch.fill_bytes(buffers.rows, 0, pixels * group.width * 4);
  int labels = 0;
  for (const CrfSet& set : group.sets) labels = std::max(labels, set.num_labels);
  const dim3 grid = lattice_grid(pixels, static_cast<unsigned>(group.sets.size()));
  for (int t = 0; t <= options.steps; ++t) {
    step.first = t == 0;
    step.last = t == options.steps;
    if (labels <= 4)
      launch(assign_kernel<4>, grid, table, step);
    else if (labels <= 8)
      launch(assign_kernel<8>, grid, table, step);
    else
      launch(assign_kernel<0>, grid, table, step);
    if (step.last) break;
    const float* rows = buffers.rows;
    step.spatial = filtered(buffers.spatial, filter(buffers.spatial, rows, group.width, launch),
                            options.spatial_weight);
    step.bilateral = filtered(buffers.bilateral, filter(buffers.bilateral, rows, group.width, launch),
                              options.bilateral_weight);
  }
}

void clear_outputs(const CrfData& data, LaunchChain& launch) {
  const int64_t plane = data.H * data.W;
  if (data.refined) launch.fill_bytes(data.refined, 0, data.S * plane);
  if (!data.marginals) return;
  launch.fill_bytes(data.marginals, 0, data.S * data.max_labels * plane * 4);
  for (int64_t s = 0; s < data.S; ++s) {
    const int64_t b = data.image_index[s], pixels = int64_t{data.height(b)} * data.width(b);
    if (data.num_labels[s] == 1 && pixels > 0)
      launch(ones_kernel, lattice_grid(pixels), data.marginals + s * data.max_labels * plane, pixels, data.width(b),
             data.W);
  }
}

}  // namespace

int64_t dense_crf_workspace(const CrfData& data) {
  const Extent extent = largest(data, group_sets(data, 0.5f));
  Workspace workspace(nullptr);
  Buffers(workspace, extent.pixels, extent.width);
  return workspace.bytes();
}

int dense_crf_cuda(const CrfData& data, const CrfOptions& options, void* workspace, void* stream) {
  LaunchChain launch{static_cast<cudaStream_t>(stream)};
  clear_outputs(data, launch);
  const auto images = group_sets(data, options.gt_prob);
  const int width = largest(data, images).width;
  const CrfFeatures<2> near = crf_features<2>(options.spatial_sxy, 1.0f);
  const CrfFeatures<5> alike = crf_features<5>(options.bilateral_sxy, options.bilateral_srgb);
  int h = 0, w = 0;  // size that the spatial lattice was built for
  for (int64_t b = 0; b < data.B; ++b) {
    if (images[static_cast<size_t>(b)].empty()) continue;
    const int64_t plane = data.H * data.W;
    const DevicePixels source{data.images + b * 3 * plane, plane, data.W, data.height(b), data.width(b)};
    Workspace cut(workspace);
    const Buffers buffers(cut, int64_t{source.h} * source.w, width);
    if (source.h != h || source.w != w) build_lattice(buffers.spatial, near, source, buffers.rows, launch);
    h = source.h;
    w = source.w;
    build_lattice(buffers.bilateral, alike, source, buffers.rows, launch);
    for (const CrfGroup& group : images[static_cast<size_t>(b)]) mean_field(group, source, buffers, options, launch);
  }
  return launch.error;
}

}  // namespace wsis
