// Id maps to run-length codes: find the changes down the columns, group them by instance, code every span on its own.
#include "common/mask_rle.h"
#include "cuda/planes.h"
#include "cuda/scan.h"

namespace wsis {
namespace {

constexpr int kBlock = 256;

// One strip: its image and column, and the rows that it covers.
struct Strip {
  int64_t index, b, x, first_row, end_row, height, width;
  bool exists;  // otherwise one of the threads left over

  // Threads are numbered along the rows, so that a warp reads neighbouring columns together.
  __device__ explicit Strip(const RleProblem& p) {
    const int64_t per_column = (p.H + kStripRows - 1) / kStripRows;
    const PlanePixel thread = pixel_of_thread(p.W * per_column, kBlock);
    const Place place = place_of(thread.index, p.W);
    exists = place.y < per_column;
    if (!exists) return;
    x = place.x;
    b = thread.plane;
    index = (b * p.W + x) * per_column + place.y;
    height = p.sizes ? p.sizes[2 * b] : p.H;
    width = p.sizes ? p.sizes[2 * b + 1] : p.W;
    first_row = place.y * kStripRows;
    end_row = x < width ? (height < first_row + kStripRows ? height : first_row + kStripRows) : 0;
  }
};

// Calls f(row, id) for every pixel of the strip whose id differs from the one before it down the columns.
template <class F>
__device__ __forceinline__ void for_each_change(const RleProblem& p, const Strip& strip, const F& f) {
  if (strip.first_row >= strip.end_row) return;
  const int32_t* column = p.ids + strip.b * p.H * p.W + strip.x;
  const bool starts_image = strip.first_row == 0 && strip.x == 0;
  int32_t before = 0;
  if (strip.first_row > 0)
    before = column[(strip.first_row - 1) * p.W];
  else if (strip.x > 0)
    before = column[(strip.height - 1) * p.W - 1];
  for (int64_t y = strip.first_row; y < strip.end_row; ++y) {
    const int32_t id = column[y * p.W];
    if (id != before || (starts_image && y == 0)) f(y, id);
    before = id;
  }
}

__global__ void __launch_bounds__(kBlock)
    count_changes_kernel(const RleProblem p, int32_t* RESTRICT strip_counts) {
  const Strip strip(p);
  if (!strip.exists) return;
  int32_t count = 0;
  for_each_change(p, strip, [&](int64_t, int32_t) { ++count; });
  strip_counts[strip.index] = count;
}

__global__ void __launch_bounds__(kBlock) clear_keys_kernel(const RleScratch s, int64_t keys) {
  const int64_t key = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (key >= keys) return;
  s.key_count[key] = 0;
  s.key_first[key] = INT64_MAX;
  s.key_last[key] = -1;
}

// Lists the changes in order, and counts those of every key with the range in which they lie.
__global__ void __launch_bounds__(kBlock) list_changes_kernel(const RleProblem p, const RleScratch s) {
  const Strip strip(p);
  if (!strip.exists) return;
  int64_t at = s.strip_offsets[strip.index];
  for_each_change(p, strip, [&](int64_t y, int32_t id) {
    s.change_start[at] = static_cast<uint32_t>(strip.x * strip.height + y);
    s.change_id[at] = id;
    if (id > 0 && id <= p.capacity) {
      const int64_t key = strip.b * p.capacity + id - 1;
      atomicAdd(s.key_count + key, 1);
      atomicMin(reinterpret_cast<long long*>(s.key_first + key), static_cast<long long>(at));
      atomicMax(reinterpret_cast<long long*>(s.key_last + key), static_cast<long long>(at));
    }
    ++at;
  });
}

__global__ void __launch_bounds__(kBlock) mark_present_kernel(const RleScratch s, int64_t keys) {
  const int64_t key = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (key < keys) s.key_present[key] = s.key_count[key] > 0;
}

// One warp gathers the spans of one key from its range of changes, in order.
__global__ void __launch_bounds__(kBlock) gather_spans_kernel(const RleProblem p, const RleScratch s, int64_t keys) {
  const int64_t key = (int64_t(blockIdx.x) * kBlock + threadIdx.x) / 32;
  const int lane = threadIdx.x & 31;
  if (key >= keys || s.key_count[key] == 0) return;
  const int64_t b = key / p.capacity, columns = p.W * ((p.H + kStripRows - 1) / kStripRows);
  const int64_t image_end = s.strip_offsets[(b + 1) * columns], last = s.key_last[key];
  const auto id = static_cast<int32_t>(key - b * p.capacity + 1);
  const int64_t total = p.sizes ? int64_t(p.sizes[2 * b]) * p.sizes[2 * b + 1] : p.H * p.W;
  int64_t out = s.key_offsets[key];
  for (int64_t base = s.key_first[key]; base <= last; base += 32) {
    const int64_t k = base + lane;
    const bool mine = k <= last && s.change_id[k] == id;
    const unsigned found = __ballot_sync(kFullWarp, mine);
    if (mine) {
      const int64_t r = out + __popc(found & ((1u << lane) - 1));
      s.spans[r] = {s.change_start[k], k + 1 < image_end ? s.change_start[k + 1] : static_cast<uint32_t>(total)};
      s.span_key[r] = key;
    }
    out += __popc(found);
  }
}

// The numbers that stand for span r (see span_values).
__device__ __forceinline__ int values_of_span(const RleProblem& p, const RleScratch& s, int64_t r, int64_t* values) {
  const int64_t key = s.span_key[r], first = s.key_offsets[key], b = key / p.capacity;
  const int64_t total = p.sizes ? int64_t(p.sizes[2 * b]) * p.sizes[2 * b + 1] : p.H * p.W;
  return span_values(s.spans + first, r - first, r + 1 == s.key_offsets[key + 1], total, values);
}

__global__ void __launch_bounds__(kBlock) count_bytes_kernel(const RleProblem p, const RleScratch s, int64_t keys) {
  const int64_t r = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (r >= s.changes) return;
  int32_t bytes = 0;
  if (r < s.key_offsets[keys]) {
    int64_t values[3];
    const int numbers = values_of_span(p, s, r, values);
    for (int v = 0; v < numbers; ++v) bytes += code_bytes(values[v]);
  }
  s.span_bytes[r] = bytes;
}

__global__ void __launch_bounds__(kBlock)
    write_codes_kernel(const RleProblem p, const RleScratch s, int64_t keys, uint8_t* RESTRICT codes) {
  const int64_t r = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (r >= s.key_offsets[keys]) return;
  int64_t values[3];
  const int numbers = values_of_span(p, s, r, values);
  uint8_t* out = codes + s.byte_offsets[r];
  for (int v = 0; v < numbers; ++v) out += write_code(values[v], out);
}

__global__ void __launch_bounds__(kBlock)
    write_rows_kernel(const RleProblem p, const RleScratch s, int64_t keys, const RleOutput out) {
  const int64_t key = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (key >= keys) return;
  if (key == keys - 1) out.offsets[s.row_offsets[keys]] = s.byte_offsets[s.changes];
  if (s.key_count[key] == 0) return;
  const int64_t row = s.row_offsets[key], b = key / p.capacity;
  out.image_index[row] = b;
  out.id[row] = key - b * p.capacity + 1;
  out.offsets[row] = s.byte_offsets[s.key_offsets[key]];
}

dim3 strip_grid(const RleProblem& p) {
  return dim3(plane_grid(p.B, p.W * ((p.H + kStripRows - 1) / kStripRows), kBlock));
}

}  // namespace

int mask_rle_count_cuda(const RleProblem& p, const RleScratch& s, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t strips = rle_strips(p);
  if (int code = CUDA_LAUNCH(count_changes_kernel, strip_grid(p), dim3(kBlock), 0, queue, p, s.strip_counts))
    return code;
  return exclusive_scan(s.strip_counts, strips, s.strip_offsets, s.partial, queue);
}

int mask_rle_group_cuda(const RleProblem& p, const RleScratch& s, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t keys = p.B * p.capacity;
  const dim3 block(kBlock), key_grid(grid_for(keys, kBlock)), warp_grid(grid_for(32 * keys, kBlock));
  const dim3 change_grid(grid_for(s.changes, kBlock));
  if (int code = CUDA_LAUNCH(clear_keys_kernel, key_grid, block, 0, queue, s, keys)) return code;
  if (int code = CUDA_LAUNCH(list_changes_kernel, strip_grid(p), block, 0, queue, p, s)) return code;
  if (int code = CUDA_LAUNCH(mark_present_kernel, key_grid, block, 0, queue, s, keys)) return code;
  if (int code = exclusive_scan(s.key_count, keys, s.key_offsets, s.partial, queue)) return code;
  if (int code = exclusive_scan(s.key_present, keys, s.row_offsets, s.partial, queue)) return code;
  if (int code = CUDA_LAUNCH(gather_spans_kernel, warp_grid, block, 0, queue, p, s, keys)) return code;
  if (int code = CUDA_LAUNCH(count_bytes_kernel, change_grid, block, 0, queue, p, s, keys)) return code;
  return exclusive_scan(s.span_bytes, s.changes, s.byte_offsets, s.partial, queue);
}

int mask_rle_write_cuda(const RleProblem& p, const RleScratch& s, const RleOutput& out, void* stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  const int64_t keys = p.B * p.capacity;
  const dim3 block(kBlock), key_grid(grid_for(keys, kBlock)), change_grid(grid_for(s.changes, kBlock));
  if (int code = CUDA_LAUNCH(write_rows_kernel, key_grid, block, 0, queue, p, s, keys, out)) return code;
  return CUDA_LAUNCH(write_codes_kernel, change_grid, block, 0, queue, p, s, keys, out.codes);
}

}  // namespace wsis
