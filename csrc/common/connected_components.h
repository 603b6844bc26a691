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

}  // namespace wsis
