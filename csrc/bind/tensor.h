// The only place where kernels meet torch: pointers, devices, streams and errors through the stable ABI.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace wsis {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Last line of defence behind the checks in Python, which give the kind and complete messages.
#define WSIS_CHECK(op, condition, ...) STD_TORCH_CHECK(condition, op, ": ", __VA_ARGS__)

inline Tensor dense(const Tensor& t) { return torch::stable::contiguous(t); }

inline std::optional<Tensor> dense(const std::optional<Tensor>& t) {
  return t ? std::optional<Tensor>(dense(*t)) : std::nullopt;
}

inline Tensor new_empty(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, std::vector<int64_t>(sizes), dtype);
}

inline Tensor new_zeros(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_zeros(like, std::vector<int64_t>(sizes), dtype);
}

template <class T>
const T* in_ptr(const Tensor& t) {
  return static_cast<const T*>(t.const_data_ptr());
}

template <class T>
const T* in_ptr(const std::optional<Tensor>& t) {
  return t ? in_ptr<T>(*t) : nullptr;
}

template <class T>
T* out_ptr(Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// The stream that torch would use now on the tensor's device; opaque, so that no CUDA header is needed here.
void* current_stream(const Tensor& t);

// Turns the code a CUDA host function returned into an exception naming op and cause.
void check_cuda(const char* op, int code, const Tensor& t);

// Makes the tensor's device current for one scope, as every CUDA host function expects, in an NVTX range "wsis::op".
struct DeviceScope {
  torch::stable::accelerator::DeviceGuard guard;
  DeviceScope(const char* op, const Tensor& t);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
};

}  // namespace wsis
