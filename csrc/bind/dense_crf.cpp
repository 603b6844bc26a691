#include "common/dense_crf.h"

#include "bind/tensor.h"

namespace wsis {
namespace {

constexpr const char* kOp = "dense_crf";

// The small tables are read by the host: they stay on the CPU whatever the images' device.
void check_table(const Tensor& table, const char* name, int64_t rows, int32_t low, int32_t high) {
  WSIS_CHECK(kOp, table.dim() == 1 && table.size(0) == rows && table.scalar_type() == ScalarType::Int &&
                      table.is_cpu(),
             name, " must be [S] int32 on the CPU");
  const Tensor values = dense(table);
  for (int64_t s = 0; s < rows; ++s) {
    const int32_t v = in_ptr<int32_t>(values)[s];
    WSIS_CHECK(kOp, v >= low && v <= high, name, " must be ", low, "..", high, ", got ", v, " at ", s);
  }
}

void check(const Tensor& images, const Tensor& labels, const Tensor& num_labels, const Tensor& image_index,
           const std::optional<Tensor>& sizes, int64_t max_labels) {
  WSIS_CHECK(kOp, images.dim() == 4 && images.size(1) == 3 && images.scalar_type() == ScalarType::Byte,
             "images must be [B, 3, H, W] uint8");
  WSIS_CHECK(kOp, labels.dim() == 3 && labels.size(1) == images.size(2) && labels.size(2) == images.size(3) &&
                      labels.scalar_type() == ScalarType::Byte,
             "labels must be [S, H, W] uint8 of the images' height and width");
  WSIS_CHECK(kOp, images.size(2) * images.size(3) <= kMaxCrfPixels, "images may have ", kMaxCrfPixels,
             " pixels at most");
  const int64_t S = labels.size(0);
  WSIS_CHECK(kOp, max_labels >= 0 && max_labels <= kMaxLabels, "max_labels must be 0..", kMaxLabels);
  check_table(num_labels, "num_labels", S, 1, static_cast<int32_t>(max_labels > 0 ? max_labels : kMaxLabels));
  check_table(image_index, "image_index", S, 0, static_cast<int32_t>(images.size(0)) - 1);
  if (!sizes) return;
  WSIS_CHECK(kOp, sizes->dim() == 2 && sizes->size(0) == images.size(0) && sizes->size(1) == 2 &&
                      sizes->scalar_type() == ScalarType::Int && sizes->is_cpu(),
             "sizes must be [B, 2] int32 on the CPU");
}

// The largest coordinate of the elevated points, in steps of d + 1: what a key must hold.
template <int D>
void check_lattice(const char* name, double height, double width, double sxy, double srgb) {
  const LatticeScale<D> scale = lattice_scale<D>();
  double sum = 0, largest = 0;
  for (int j = D; j > 0; --j) {
    const double f = (j == 1 ? width / sxy : j == 2 ? height / sxy : 255 / srgb) * scale.factor[j - 1];
    sum += f;
    largest = std::max(largest, j * f);
  }
  largest = std::max(largest, sum);
  const double bound = D == 5 ? (2 << LatticeBits<5>::kBits) : (1 << 17);
  WSIS_CHECK(kOp, largest <= bound, name, " is too narrow for an image of ", height, " x ", width,
             ": its lattice would be ", largest, " cells wide, at most ", bound, " fit");
}

CrfOptions make_options(const Tensor& images, double gt_prob, int64_t steps, double spatial_sxy,
                        double spatial_weight, double bilateral_sxy, double bilateral_srgb,
                        double bilateral_weight) {
  WSIS_CHECK(kOp, gt_prob > 0 && gt_prob < 1, "gt_prob must be between 0 and 1, got ", gt_prob);
  WSIS_CHECK(kOp, steps >= 0 && steps <= 1000, "steps must be 0..1000, got ", steps);
  WSIS_CHECK(kOp, spatial_sxy > 0 && bilateral_sxy > 0 && bilateral_srgb > 0,
             "the standard deviations must be positive");
  const auto H = static_cast<double>(images.size(2)), W = static_cast<double>(images.size(3));
  check_lattice<2>("spatial", H, W, spatial_sxy, 1);
  check_lattice<5>("bilateral", H, W, bilateral_sxy, bilateral_srgb);
  return {static_cast<float>(gt_prob),       static_cast<int>(steps),
          static_cast<float>(spatial_sxy),   static_cast<float>(spatial_weight),
          static_cast<float>(bilateral_sxy), static_cast<float>(bilateral_srgb),
          static_cast<float>(bilateral_weight)};
}

void check_sizes(const Tensor& sizes, int64_t H, int64_t W) {
  const int32_t* p = in_ptr<int32_t>(sizes);
  for (int64_t b = 0; b < sizes.size(0); ++b)
    WSIS_CHECK(kOp, p[2 * b] >= 0 && p[2 * b] <= H && p[2 * b + 1] >= 0 && p[2 * b + 1] <= W,
               "sizes must lie within the padded images");
}

// The tensors of a call, dense, and the output that the kernels fill.
struct Call {
  Tensor images, labels, num_labels, image_index;
  std::optional<Tensor> sizes;
  Tensor out;
  CrfData data;
};

Call make_call(const Tensor& images, const Tensor& labels, const Tensor& num_labels, const Tensor& image_index,
               const std::optional<Tensor>& sizes, int64_t max_labels) {
  check(images, labels, num_labels, image_index, sizes, max_labels);
  const int64_t B = images.size(0), S = labels.size(0), H = images.size(2), W = images.size(3);
  Call call{dense(images), dense(labels), dense(num_labels), dense(image_index), {}, {}, {}};
  if (sizes) {
    call.sizes = dense(*sizes);
    check_sizes(*call.sizes, H, W);
  }
  call.out = max_labels > 0 ? new_empty(call.labels, {S, max_labels, H, W}, ScalarType::Float)
                            : new_empty(call.labels, {S, H, W}, ScalarType::Byte);
  call.data = {in_ptr<uint8_t>(call.images),
               in_ptr<uint8_t>(call.labels),
               in_ptr<int32_t>(call.num_labels),
               in_ptr<int32_t>(call.image_index),
               in_ptr<int32_t>(call.sizes),
               max_labels > 0 ? nullptr : out_ptr<uint8_t>(call.out),
               max_labels > 0 ? out_ptr<float>(call.out) : nullptr,
               B,
               S,
               H,
               W,
               static_cast<int>(max_labels)};
  return call;
}

Tensor forward_cpu(const Tensor& images, const Tensor& labels, const Tensor& num_labels, const Tensor& image_index,
                   std::optional<Tensor> sizes, double gt_prob, int64_t steps, double spatial_sxy,
                   double spatial_weight, double bilateral_sxy, double bilateral_srgb, double bilateral_weight,
                   int64_t max_labels) {
  const CrfOptions options = make_options(images, gt_prob, steps, spatial_sxy, spatial_weight, bilateral_sxy,
                                          bilateral_srgb, bilateral_weight);
  const Call call = make_call(images, labels, num_labels, image_index, sizes, max_labels);
  if (call.labels.numel() > 0) dense_crf_cpu(call.data, options);
  return call.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CPU, m) { m.impl("dense_crf", TORCH_BOX(&forward_cpu)); }

#ifdef WSIS_WITH_CUDA
namespace {

Tensor forward_cuda(const Tensor& images, const Tensor& labels, const Tensor& num_labels, const Tensor& image_index,
                    std::optional<Tensor> sizes, double gt_prob, int64_t steps, double spatial_sxy,
                    double spatial_weight, double bilateral_sxy, double bilateral_srgb, double bilateral_weight,
                    int64_t max_labels) {
  const CrfOptions options = make_options(images, gt_prob, steps, spatial_sxy, spatial_weight, bilateral_sxy,
                                          bilateral_srgb, bilateral_weight);
  const DeviceScope scope(kOp, images);
  const Call call = make_call(images, labels, num_labels, image_index, sizes, max_labels);
  if (call.labels.numel() == 0) return call.out;
  Tensor workspace = new_empty(call.labels, {dense_crf_workspace(call.data)}, ScalarType::Byte);
  check_cuda(kOp, dense_crf_cuda(call.data, options, out_ptr<uint8_t>(workspace), current_stream(call.images)),
             call.images);
  return call.out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(wsis, CUDA, m) { m.impl("dense_crf", TORCH_BOX(&forward_cuda)); }
#endif

}  // namespace wsis
