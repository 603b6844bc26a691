// The parts of CUDA's cooperative groups that kernels here may use: blocks of a cluster with distributed shared
// memory, and the whole grid of a cooperative launch.
#pragma once

#include <cuda_runtime.h>

namespace cooperative_groups {

struct thread_block {
  void sync(CUSIM_PLACE) const { cusim::block_barrier(0, place); }
  unsigned thread_rank() const { return cusim::current->linear; }
  unsigned size() const { return cusim::current->block->threads; }
};
inline thread_block this_thread_block() { return {}; }

struct cluster_group {
  unsigned block_rank() const { return cusim::current->block->rank; }
  unsigned num_blocks() const { return static_cast<unsigned>(cusim::together->size()); }
  void sync(CUSIM_PLACE) const { cusim::group_barrier(place); }

  // Where `address`, in this block's dynamic shared memory, lies in that of block `rank`. Static shared memory of
  // another block is out of place while this one runs, so asking for it is a fault.
  template <class T>
  T* map_shared_rank(T* address, unsigned rank) const {
    const cusim::Block& own = *cusim::current->block;
    auto* byte = reinterpret_cast<unsigned char*>(const_cast<std::remove_cv_t<T>*>(address));
    const std::vector<unsigned char>& storage = own.dynamic_storage;
    if (byte < storage.data() || byte >= storage.data() + storage.size())
      cusim::fault("map_shared_rank wants an address in dynamic shared memory");
    if (rank >= cusim::together->size()) cusim::fault("map_shared_rank: no block " + std::to_string(rank));
    return reinterpret_cast<T*>((*cusim::together)[rank].dynamic_shared + (byte - own.dynamic_shared));
  }
};
inline cluster_group this_cluster() { return {}; }

struct grid_group {
  void sync(CUSIM_PLACE) const { cusim::group_barrier(place); }
  unsigned long long thread_rank() const {
    return cusim::current->block->linear * cusim::current->block->threads + cusim::current->linear;
  }
  unsigned long long size() const { return cusim::current->block->grid.count() * cusim::current->block->threads; }
};
inline grid_group this_grid() { return {}; }

}  // namespace cooperative_groups
