#include "common/mask_rle.h"

#include <algorithm>

#include "bind/id_map.h"
#include "common/rle_codec.h"

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

}  // namespace wsis
