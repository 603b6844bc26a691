// A permutohedral lattice on the device. No result depends on the order in which threads run: vertices are numbered
// by the first entry (pixel, corner) that touches them, and every sum has one order.
#pragma once

#include "common/cub.h"
#include "common/dense_crf.h"

namespace wsis {

constexpr int kLatticeBlock = 256;

// Cuts a workspace into arrays; with a null base it only counts.
class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<char*>(base)) {}
  template <class T>
  T* take(int64_t count) {
    const int64_t at = bytes_;
    bytes_ += (count * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
  }
  int64_t bytes() const { return bytes_; }

 private:
  char* base_;
  int64_t bytes_ = 0;
};

// One image's lattice. Entry e = pixel * (D + 1) + corner; there are at most as many vertices as entries, and how many
// only the device knows: kernels over vertices are launched for all entries and look at *vertices.
template <int D>
struct DeviceLattice {
  static constexpr int kCorners = D + 1;
  int64_t pixels, entries, slots;
  int shift;                 // 64 - log2(slots)
  unsigned long long* keys;  // [slots] hash table with linear probing, kNoKey where empty
  int32_t* first;            // [slots] the first entry that touches the vertex
  int32_t* ids;              // [entries] slot, later vertex
  float* weights;            // [entries]
  int32_t* number;           // [entries + 1] number of the vertex first touched by an entry
  const int32_t* vertices;   // = number + entries
  uint64_t* vertex_key;      // [entries]
  int32_t* neighbors;        // [2 * (D + 1), entries] previous and next vertex along each axis, -1 where none
  uint32_t* order;           // [entries] 0, 1, 2, ..
  uint32_t* sorted_id;       // [entries] vertex, ascending
  uint32_t* sorted_entry;    // [entries] its entries, ascending for each vertex
  int32_t* start;            // [entries + 1] where the entries of a vertex begin
  float* norm;               // [pixels]
  float* values[2];          // [entries, width]
  void* scratch;
  size_t scratch_bytes;

  DeviceLattice(Workspace& workspace, int64_t pixel_count, int width)
      : pixels(pixel_count), entries(pixel_count * kCorners), slots(1024), shift(54) {
    for (; 2 * slots < 3 * entries; slots *= 2) --shift;
    keys = workspace.take<unsigned long long>(slots);
    first = workspace.take<int32_t>(slots);
    ids = workspace.take<int32_t>(entries);
    weights = workspace.take<float>(entries);
    number = workspace.take<int32_t>(entries + 1);
    vertices = number + entries;
    vertex_key = workspace.take<uint64_t>(entries);
    neighbors = workspace.take<int32_t>(2 * kCorners * entries);
    order = workspace.take<uint32_t>(entries);
    sorted_id = workspace.take<uint32_t>(entries);
    sorted_entry = workspace.take<uint32_t>(entries);
    start = workspace.take<int32_t>(entries + 1);
    norm = workspace.take<float>(pixels);
    for (float*& buffer : values) buffer = workspace.take<float>(entries * width);
    const size_t sum = ExclusiveSum::scratch_bytes(entries + 1), sort = SortPairs::scratch_bytes(entries, id_bits());
    scratch_bytes = sum > sort ? sum : sort;
    scratch = workspace.take<char>(static_cast<int64_t>(scratch_bytes));
  }

  int id_bits() const {
    int bits = 1;
    while ((int64_t{1} << bits) < entries) ++bits;
    return bits;
  }
};

// Where the pixels of one image lie: planes [3, *, *] with `plane` bytes between them, rows of `stride` bytes.
struct DevicePixels {
  const uint8_t* image;
  int64_t plane, stride;
  int h, w;
};

// Slot of a key, or -1.
template <int D>
__device__ __forceinline__ int64_t find_slot(const DeviceLattice<D>& lattice, uint64_t key) {
  int64_t slot = static_cast<int64_t>(key_hash(key) >> lattice.shift);
  for (;; slot = (slot + 1) & (lattice.slots - 1)) {
    const uint64_t seen = lattice.keys[slot];
    if (seen == key) return slot;
    if (seen == kNoKey) return -1;
  }
}

// One thread locates one pixel and puts its vertices into the table. A look before each atomic spares most of them,
// since neighbouring pixels share vertices.
template <int D>
__global__ void __launch_bounds__(kLatticeBlock, 6)
    insert_kernel(const DeviceLattice<D> lattice, const CrfFeatures<D> features, const DevicePixels source) {
  const int64_t p = int64_t(blockIdx.x) * kLatticeBlock + threadIdx.x;
  if (p >= lattice.pixels) return;
  const int y = static_cast<int>(p) / source.w, x = static_cast<int>(p) % source.w;
  uint8_t rgb[3] = {0, 0, 0};
  if (D > 2)
    for (int c = 0; c < 3; ++c) rgb[c] = source.image[c * source.plane + y * source.stride + x];
  Simplex<D> simplex;
  crf_locate<D>(features, y, x, rgb, simplex);
  for (int k = 0; k <= D; ++k) {
    const int32_t entry = static_cast<int32_t>(p * (D + 1) + k);
    int64_t slot = static_cast<int64_t>(key_hash(simplex.key[k]) >> lattice.shift);
    for (;; slot = (slot + 1) & (lattice.slots - 1)) {
      unsigned long long seen = *static_cast<volatile unsigned long long*>(lattice.keys + slot);
      if (seen == kNoKey)
        seen = atomicCAS(lattice.keys + slot, static_cast<unsigned long long>(kNoKey),
                         static_cast<unsigned long long>(simplex.key[k]));
      if (seen == kNoKey || seen == simplex.key[k]) break;
    }
    if (*static_cast<volatile int32_t*>(lattice.first + slot) > entry) atomicMin(lattice.first + slot, entry);
    lattice.ids[entry] = static_cast<int32_t>(slot);
    lattice.weights[entry] = simplex.weight[k];
  }
}

// Marks the entries that touch their vertex first; the running sum of the marks numbers the vertices.
template <int D>
__global__ void __launch_bounds__(kLatticeBlock) mark_kernel(const DeviceLattice<D> lattice) {
  const int64_t e = int64_t(blockIdx.x) * kLatticeBlock + threadIdx.x;
  if (e > lattice.entries) return;
  lattice.number[e] = e < lattice.entries && lattice.first[lattice.ids[e]] == e;
}

// Slots become vertex numbers.
template <int D>
__global__ void __launch_bounds__(kLatticeBlock) number_kernel(const DeviceLattice<D> lattice) {
  const int64_t e = int64_t(blockIdx.x) * kLatticeBlock + threadIdx.x;
  if (e >= lattice.entries) return;
  const int32_t slot = lattice.ids[e], first = lattice.first[slot], id = lattice.number[first];
  if (first == e) lattice.vertex_key[id] = lattice.keys[slot];
  lattice.ids[e] = id;
  lattice.order[e] = static_cast<uint32_t>(e);
}

// One thread looks up both neighbours of a vertex along one axis.
template <int D>
__global__ void __launch_bounds__(kLatticeBlock) neighbor_kernel(const DeviceLattice<D> lattice) {
  const int64_t v = int64_t(blockIdx.x) * kLatticeBlock + threadIdx.x;
  const int axis = static_cast<int>(blockIdx.y);
  if (v >= *lattice.vertices) return;
  const uint64_t key = lattice.vertex_key[v];
  for (int side = 0; side < 2; ++side) {
    const int64_t slot = find_slot<D>(lattice, side ? next_key<D>(key, axis) : previous_key<D>(key, axis));
    lattice.neighbors[(2 * axis + side) * lattice.entries + v] = slot < 0 ? -1 : lattice.number[lattice.first[slot]];
  }
}

template <int D>
__global__ void __launch_bounds__(kLatticeBlock) start_kernel(const DeviceLattice<D> lattice) {
  const int64_t e = int64_t(blockIdx.x) * kLatticeBlock + threadIdx.x;
  if (e >= lattice.entries) return;
  const uint32_t v = lattice.sorted_id[e];
  if (e == 0 || lattice.sorted_id[e - 1] != v) lattice.start[v] = static_cast<int32_t>(e);
  if (e == lattice.entries - 1) lattice.start[v + 1] = static_cast<int32_t>(lattice.entries);
}

// Which four channels of which vertex item `within` of a block has, where blocks of `size` items take those of all
// vertices in order. In 32 bits: there may be more than 2^32 items.
struct VertexChannels {
  int64_t first, v;  // first: no vertex of the block is smaller
  int channel;

  __device__ __forceinline__ VertexChannels(unsigned size, unsigned within, int width) {
    const unsigned quads = static_cast<unsigned>(width) / 4, whole = blockIdx.x / quads;
    const unsigned item = (blockIdx.x - whole * quads) * size + within, above = item / quads;
    first = int64_t(whole) * size;
    v = first + above;
    channel = static_cast<int>(item - above * quads) * 4;
  }
};

// rows [pixels, width], values [vertices, width]. Eight threads share four channels of a vertex: each adds every
// eighth of its entries, then the eight sums are added as a tree, so that the order is fixed.
template <int D>
__global__ void __launch_bounds__(kLatticeBlock)
    splat_kernel(const DeviceLattice<D> lattice, const float* RESTRICT rows, float* RESTRICT values, int width) {
  const VertexChannels own(kLatticeBlock / 8, threadIdx.x / 8, width);
  const int64_t v = own.v, vertices = *lattice.vertices;
  if (own.first >= vertices) return;
  const int channel = own.channel, lane = threadIdx.x % 8;
  const bool inside = v < vertices;
  float sum[4] = {0, 0, 0, 0};
  const int32_t end = inside ? lattice.start[v + 1] : 0;
  for (int32_t i = inside ? lattice.start[v] + lane : 0; i < end; i += 8) {
    const uint32_t entry = lattice.sorted_entry[i], pixel = entry / (D + 1);
    const float weight = lattice.weights[entry], norm = lattice.norm[pixel];
    const float4 row = *reinterpret_cast<const float4*>(rows + int64_t(pixel) * width + channel);
    sum[0] += weight * (row.x * norm);
    sum[1] += weight * (row.y * norm);
    sum[2] += weight * (row.z * norm);
    sum[3] += weight * (row.w * norm);
  }
  for (int c = 0; c < 4; ++c)
    for (int other = 4; other > 0; other /= 2) sum[c] += __shfl_xor_sync(kFullWarp, sum[c], other);
  if (inside && lane == 0)
    *reinterpret_cast<float4*>(values + v * width + channel) = make_float4(sum[0], sum[1], sum[2], sum[3]);
}

__device__ __forceinline__ float4 row_or_zero(const float* values, int32_t v, int width, int channel) {
  if (v < 0) return make_float4(0, 0, 0, 0);
  return *reinterpret_cast<const float4*>(values + int64_t(v) * width + channel);
}

// One thread blurs four channels of a vertex along one axis.
template <int D>
__global__ void __launch_bounds__(kLatticeBlock)
    blur_kernel(const DeviceLattice<D> lattice, int axis, const float* RESTRICT in, float* RESTRICT out, int width) {
  const VertexChannels own(kLatticeBlock, threadIdx.x, width);
  const int64_t v = own.v;
  const int channel = own.channel;
  if (v >= *lattice.vertices) return;
  const int32_t* neighbors = lattice.neighbors + 2 * axis * lattice.entries + v;
  const float4 a = row_or_zero(in, neighbors[0], width, channel);
  const float4 b = row_or_zero(in, neighbors[lattice.entries], width, channel);
  float4 value = row_or_zero(in, static_cast<int32_t>(v), width, channel);
  value.x += 0.5f * (a.x + b.x);
  value.y += 0.5f * (a.y + b.y);
  value.z += 0.5f * (a.z + b.z);
  value.w += 0.5f * (a.w + b.w);
  *reinterpret_cast<float4*>(out + v * width + channel) = value;
}

// What one pixel reads back in one channel.
template <int D>
__device__ __forceinline__ float slice_at(const int32_t* ids, const float* weights, const float* values, int width,
                                          int channel) {
  float sum = weights[0] * values[int64_t(ids[0]) * width + channel];
  for (int k = 1; k <= D; ++k) sum = sum + weights[k] * values[int64_t(ids[k]) * width + channel];
  return sum;
}

template <int D>
__global__ void __launch_bounds__(kLatticeBlock)
    norm_kernel(const DeviceLattice<D> lattice, const float* RESTRICT values, int width) {
  const int64_t p = int64_t(blockIdx.x) * kLatticeBlock + threadIdx.x;
  if (p >= lattice.pixels) return;
  const int64_t e = p * (D + 1);
  lattice.norm[p] = crf_norm(slice_at<D>(lattice.ids + e, lattice.weights + e, values, width, 0));
}

template <class T>
__global__ void __launch_bounds__(kLatticeBlock) fill_kernel(T* data, T value, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * kLatticeBlock + threadIdx.x;
  if (i < count) data[i] = value;
}

// Launches one after the other; after the first that fails the others are left out.
struct LaunchChain {
  cudaStream_t stream;
  int error = 0;

  template <class Kernel, class... Args>
  void operator()(Kernel kernel, dim3 grid, Args... args) {
    if (error == 0) error = CUDA_LAUNCH(kernel, grid, dim3(kLatticeBlock), 0, stream, args...);
  }
  void fill_bytes(void* data, int byte, int64_t bytes) {
    if (error == 0) error = static_cast<int>(cudaMemsetAsync(data, byte, static_cast<size_t>(bytes), stream));
  }
};

inline dim3 lattice_grid(int64_t threads, unsigned y = 1) { return dim3(grid_for(threads, kLatticeBlock), y); }

// Splats rows and blurs; returns the buffer that holds the result.
template <int D>
const float* filter(const DeviceLattice<D>& lattice, const float* rows, int width, LaunchChain& launch) {
  const int64_t items = lattice.entries * (width / 4);
  float *in = lattice.values[0], *out = lattice.values[1];
  launch(splat_kernel<D>, lattice_grid(items * 8), lattice, rows, in, width);
  for (int axis = 0; axis <= D; ++axis) {
    launch(blur_kernel<D>, lattice_grid(items), lattice, axis, static_cast<const float*>(in), out, width);
    float* done = out;
    out = in;
    in = done;
  }
  return in;
}

// rows [pixels, 4] is scratch for G(1).
template <int D>
void build_lattice(const DeviceLattice<D>& lattice, const CrfFeatures<D>& features, const DevicePixels& source,
                   float* rows, LaunchChain& launch) {
  const dim3 per_entry = lattice_grid(lattice.entries), per_pixel = lattice_grid(lattice.pixels);
  launch.fill_bytes(lattice.keys, 0xff, lattice.slots * 8);
  launch.fill_bytes(lattice.first, 0x7f, lattice.slots * 4);
  launch(insert_kernel<D>, per_pixel, lattice, features, source);
  launch(mark_kernel<D>, lattice_grid(lattice.entries + 1), lattice);
  if (launch.error == 0)
    launch.error = ExclusiveSum::run(lattice.scratch, lattice.scratch_bytes, lattice.number, lattice.number,
                                     lattice.entries + 1, launch.stream);
  launch(number_kernel<D>, per_entry, lattice);
  launch(neighbor_kernel<D>, lattice_grid(lattice.entries, D + 1), lattice);
  if (launch.error == 0)
    launch.error = SortPairs::run(lattice.scratch, lattice.scratch_bytes,
                                  reinterpret_cast<const uint32_t*>(lattice.ids), lattice.sorted_id, lattice.order,
                                  lattice.sorted_entry, lattice.entries, lattice.id_bits(), launch.stream);
  launch(start_kernel<D>, per_entry, lattice);
  launch(fill_kernel<float>, per_pixel, lattice.norm, 1.0f, lattice.pixels);
  launch(fill_kernel<float>, lattice_grid(lattice.pixels * 4), rows, 1.0f, lattice.pixels * 4);
  const float* ones = filter(lattice, static_cast<const float*>(rows), 4, launch);
  launch(norm_kernel<D>, per_pixel, lattice, ones, 4);
}

}  // namespace wsis
