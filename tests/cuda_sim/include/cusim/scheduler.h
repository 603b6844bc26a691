// Runs the threads of a CUDA grid as fibers of one operating-system thread. scheduler.cpp holds the machinery;
// cuda_runtime.h puts CUDA's words on top of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

#include "cusim/stacks.h"

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr uint64_t count() const { return uint64_t(x) * y * z; }
};

namespace cusim {

using Place = std::source_location;

constexpr unsigned kWarpSize = 32;

enum class Wait : uint8_t { kNothing, kBlockBarrier, kGroupBarrier, kWarp, kExited };

// A meeting of the lanes of one mask, which bring one value each. Free again as soon as the last has arrived.
struct Exchange {
  uint32_t mask = 0, arrived = 0;
  const char* operation = nullptr;
  uint64_t values[kWarpSize];
};

struct Block;

// One CUDA thread.
struct Fiber {
  Context context;
  Block* block = nullptr;
  uint3 index{};
  unsigned linear = 0;
  Wait wait = Wait::kNothing;
  Place place;                    // where it waits
  uint64_t received[kWarpSize];   // what its last exchange brought
};

// One thread block. Blocks of a cluster or of a cooperative grid are alive together.
struct Block {
  dim3 grid, size;
  uint3 index{};
  uint64_t linear = 0;
  unsigned rank = 0;  // among the blocks alive together
  unsigned threads = 0, alive = 0, at_barrier = 0;
  Fiber* fibers = nullptr;
  std::vector<unsigned char> dynamic_storage, static_storage;
  unsigned char* dynamic_shared = nullptr;
  int votes = 0, result = 0;  // of __syncthreads_count and its kin
  std::vector<std::vector<Exchange>> exchanges;  // of each warp
};

struct Launch {
  const void* kernel;
  dim3 grid, block;
  size_t shared_bytes;
  unsigned blocks_together;  // 1, the cluster size, or all blocks of a cooperative grid
  bool cooperative = false;
};

extern Fiber* current;                // the thread that runs
extern std::vector<Block>* together;  // the blocks that are alive with its own

// Runs every thread of the grid: body(context) once for each. Returns a cudaError_t; a fault that stops it is kept for
// cusim_error().
int run(const Launch& launch, void (*body)(void*), void* context);

// Allows a kernel more dynamic shared memory than 48 KiB, as cudaFuncSetAttribute does.
int allow_shared(const void* kernel, int bytes);

// The current thread waits until all threads of its block (of all blocks alive together) that have not exited wait.
// Returns the sum of the votes of the block.
int block_barrier(int vote, Place place);
void group_barrier(Place place);

// Lets other threads run; called by atomics, so that their order is shuffled and waiting loops end.
void maybe_yield();

// Brings the values of all lanes of the mask together; the answer holds them until the lane's next exchange.
const uint64_t* exchange(uint32_t mask, uint64_t value, const char* operation, Place place);

// The lanes of the mask that exist in the current warp.
uint32_t existing_lanes(uint32_t mask);

inline unsigned lane() { return current->linear % kWarpSize; }

[[noreturn]] void fault(const std::string& text);
std::string describe(Place place);

}  // namespace cusim
