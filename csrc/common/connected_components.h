// connected_components: host functions, and the words both back-ends share.
#pragma once

#include <cstdint>

#include "common/macros.h"

namespace wsis {

// labels [B, H, W], sizes [B, 2] (height, width) or null -> ids [B, H, W], counts [B]. Only equality of labels counts,
// so T is the unsigned type of their width. Without has_background every value forms components.
template <class T>
struct ComponentProblem {
  const T* labels;
  const int32_t* sizes;
  int32_t* ids;
  int32_t* counts;
  int64_t B, H, W;
  T background;
  bool has_background;
  bool diagonal;  // 8-connected

  HOST_DEVICE bool is_background(T label) const { return has_background && label == background; }
};

template <class T>
void connected_components_cpu(const ComponentProblem<T>& problem);

// Scratch of the CUDA version: a chunk is kComponentChunk successive pixels of one image.
constexpr int kComponentChunk = 1024;
struct ComponentScratch {
  int32_t* parent;        // [B, H, W]
  int32_t* chunk_counts;  // [B * chunks]
  int64_t* offsets;       // [B * chunks + 1]
  int64_t* partial;       // scan_scratch(B * chunks), see common/scan_scratch.h
};
HOST_DEVICE int64_t component_chunks(int64_t H, int64_t W) { return (H * W + kComponentChunk - 1) / kComponentChunk; }

template <class T>
int connected_components_cuda(const ComponentProblem<T>& problem, const ComponentScratch& scratch, void* stream);

}  // namespace wsis
