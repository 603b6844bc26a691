#include "common/mask_rle.h"

#include <algorithm>

#include "bind/id_map.h"
#include "common/rle_codec.h"
#include "common/scan_scratch.h"

namespace wsis {
namespace {

constexpr const char* kOp = "mask_rle";

using Codes = std::tuple<Tensor, Tensor, Tensor, Tensor>;

void check(const Tensor& ids, const std::optional<Tensor>& sizes, int64_t capacity) {
  WSIS_CHECK(kOp, ids.dim() == 3 && ids.scalar_type() == ScalarType::Int, "ids must be [B, H, W] int32");
  WSIS_CHECK(kOp, ids.size(1) <= kMaxRleSide && ids.size(2) <= kMaxRleSide &&
                      (ids.size(1) == 0 || ids.size(2) <= INT32_MAX / ids.size(1)),
             "ids must have sides of at most 65536 and fewer than 2^31 pixels an image");
  WSIS_CHECK(kOp, capacity >= 0 && capacity <= INT32_MAX - 2, "capacity must be 0..2^31 - 3, got ", capacity);
  check_sizes_table(kOp, ids, sizes);
}

// Lays the codes of all images one behind the other.
Codes join(const Tensor& like, const std::vector<ImageCodes>& images) {
  int64_t instances = 0, bytes = 0;
  for (const ImageCodes& image : images) {
    instances += static_cast<int64_t>(image.id.size());
    bytes += static_cast<int64_t>(image.codes.size());
  }
  Tensor image_index = new_empty(like, {instances}, ScalarType::Long);
  Tensor id = new_empty(like, {instances}, ScalarType::Long);
  Tensor offsets = new_empty(like, {instances + 1}, ScalarType::Long);
  Tensor codes = new_empty(like, {bytes}, ScalarType::Byte);
  int64_t* index_out = out_ptr<int64_t>(image_index);
  int64_t* id_out = out_ptr<int64_t>(id);
  int64_t* offset_out = out_ptr<int64_t>(offsets);
  uint8_t* code_out = out_ptr<uint8_t>(codes);
  int64_t base = 0;
  *offset_out++ = 0;
  for (size_t b = 0; b < images.size(); ++b) {
    const ImageCodes& image = images[b];
    index_out = std::fill_n(index_out, image.id.size(), static_cast<int64_t>(b));
    id_out = std::copy(image.id.begin(), image.id.end(), id_out);
    for (size_t k = 0; k < image.id.size(); ++k) *offset_out++ = base + image.offset[k + 1];
    code_out = std::copy(image.codes.begin(), image.codes.end(), code_out);
    base += static_cast<int64_t>(image.codes.size());
  }
  return {image_index, id, offsets, codes};
}

Codes codes_cpu(const Tensor& ids, const std::optional<Tensor>& sizes, int64_t capacity) {
  check(ids, sizes, capacity);
  const Tensor map = dense(ids);
  const std::optional<Tensor> extents = dense(sizes);
  return join(map, mask_rle_cpu({in_ptr<int32_t>(map), in_ptr<int32_t>(extents), map.size(0), map.size(1), map.size(2),
                                 capacity}));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("mask_rle", TORCH_BOX(&codes_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

// The last value of a table of offsets, on the host: waits for the current stream.
int64_t read_last(const Tensor& offsets) {
  const Tensor last = torch::stable::narrow(const_cast<Tensor&>(offsets), 0, offsets.size(0) - 1, 1);
  const Tensor host = torch::stable::to(last, torch::stable::Device(torch::headeronly::DeviceType::CPU));
  return *in_ptr<int64_t>(host);
}

struct Scratch {
  const Tensor& like;
  std::vector<Tensor> kept;

  template <class T>
  T* make(int64_t n, ScalarType dtype) {
    kept.push_back(new_empty(like, {n}, dtype));
    return out_ptr<T>(kept.back());
  }
  int32_t* ints(int64_t n) { return make<int32_t>(n, ScalarType::Int); }
  int64_t* longs(int64_t n) { return make<int64_t>(n, ScalarType::Long); }
};

Codes nothing(const Tensor& like) {
  return {new_empty(like, {0}, ScalarType::Long), new_empty(like, {0}, ScalarType::Long),
          new_zeros(like, {1}, ScalarType::Long), new_empty(like, {0}, ScalarType::Byte)};
}

Codes codes_cuda(const Tensor& ids, const std::optional<Tensor>& sizes, int64_t capacity) {
  check(ids, sizes, capacity);
  const DeviceScope scope(kOp, ids);
  const Tensor map = dense(ids);
  const std::optional<Tensor> extents = dense(sizes);
  const RleProblem problem{in_ptr<int32_t>(map), in_ptr<int32_t>(extents), map.size(0), map.size(1), map.size(2),
                           capacity};
  const int64_t keys = problem.B * capacity, strips = rle_strips(problem);
  if (keys == 0 || strips == 0) return nothing(map);
  void* stream = current_stream(map);

  Scratch memory{map, {}};
  RleScratch s{};
  Tensor strip_offsets = new_empty(map, {strips + 1}, ScalarType::Long);
  s.strip_offsets = out_ptr<int64_t>(strip_offsets);
  s.strip_counts = memory.ints(strips);
  s.partial = memory.longs(scan_scratch(strips));
  check_cuda(kOp, mask_rle_count_cuda(problem, s, stream), map);
  s.changes = read_last(strip_offsets);
  if (s.changes == 0) return nothing(map);

  Tensor row_offsets = new_empty(map, {keys + 1}, ScalarType::Long);
  Tensor byte_offsets = new_empty(map, {s.changes + 1}, ScalarType::Long);
  s.row_offsets = out_ptr<int64_t>(row_offsets);
  s.byte_offsets = out_ptr<int64_t>(byte_offsets);
  s.partial = memory.longs(scan_scratch(std::max(keys, s.changes)));
  s.change_start = reinterpret_cast<uint32_t*>(memory.ints(s.changes));
  s.change_id = memory.ints(s.changes);
  s.key_count = memory.ints(keys);
  s.key_first = memory.longs(keys);
  s.key_last = memory.longs(keys);
  s.key_offsets = memory.longs(keys + 1);
  s.key_present = memory.ints(keys);
  s.spans = reinterpret_cast<Span*>(memory.longs(s.changes));
  s.span_key = memory.longs(s.changes);
  s.span_bytes = memory.ints(s.changes);
  check_cuda(kOp, mask_rle_group_cuda(problem, s, stream), map);
  const int64_t rows = read_last(row_offsets), bytes = read_last(byte_offsets);

  Tensor image_index = new_empty(map, {rows}, ScalarType::Long);
  Tensor id = new_empty(map, {rows}, ScalarType::Long);
  Tensor offsets = new_empty(map, {rows + 1}, ScalarType::Long);
  Tensor codes = new_empty(map, {bytes}, ScalarType::Byte);
  const RleOutput out{out_ptr<int64_t>(image_index), out_ptr<int64_t>(id), out_ptr<int64_t>(offsets),
                      out_ptr<uint8_t>(codes)};
  check_cuda(kOp, mask_rle_write_cuda(problem, s, out, stream), map);
  return {image_index, id, offsets, codes};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("mask_rle", TORCH_BOX(&codes_cuda)); }
#endif

}  // namespace wsis
