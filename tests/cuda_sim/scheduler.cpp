#include "cusim/scheduler.h"

#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <stdexcept>

namespace cusim {

Fiber* current = nullptr;
std::vector<Block>* together = nullptr;

namespace {

enum class Order { kForward, kReverse, kRandom };

constexpr unsigned kMaxThreads = 1024, kMaxBlockZ = 64, kMaxGridYZ = 65535, kMaxCluster = 16;
constexpr size_t kSharedDefault = 48 << 10, kSharedMost = 227 << 10;
constexpr unsigned char kPoison = 0xff;  // NaN as a float, -1 as an integer
constexpr unsigned char kCanary = 0xa5;
constexpr size_t kCanaryBytes = 64;
constexpr unsigned kPatience = 64;  // atomics after which a thread lets others run, even if the order is not random

enum CudaError { kSuccess = 0, kInvalidValue = 1, kInvalidConfiguration = 9, kLaunchFailure = 719 };

Order order = Order::kForward;
uint64_t seed = 1, random_state = 1;
std::string last_error;
std::map<const void*, int> shared_limits;

// The state of the group that runs.
std::vector<Fiber> fibers;
std::vector<Fiber*> ready, awakened;  // this round's threads, last first; next round's
unsigned alive = 0, at_group_barrier = 0, patience = 0;
Fiber scheduler;  // the launching code; only its context matters
void (*thread_body)(void*) = nullptr;
void* thread_context = nullptr;
std::exception_ptr failure;
Block* resident = nullptr;  // whose static shared memory lies in place

uint64_t random_number() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

template <class T>
void put_in_order(std::vector<T>& items) {
  if (order == Order::kReverse) std::reverse(items.begin(), items.end());
  if (order == Order::kRandom)
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random_number() % i]);
}

// --- static shared memory -------------------------------------------------------------------------------------------
// __shared__ becomes thread_local, so that all of it lies in one piece: this library's thread-local segment. It is
// poisoned when a block begins and exchanged when a thread of another living block runs.

thread_local unsigned char anchor;

struct Segment {
  unsigned char* data = nullptr;
  size_t bytes = 0;
};

Segment static_shared() {
  volatile unsigned char* touch = &anchor;  // makes sure that the segment exists
  *touch = 0;
  Segment found;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        auto& segment = *static_cast<Segment*>(out);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto* data = static_cast<unsigned char*>(info->dlpi_tls_data);
          const size_t bytes = info->dlpi_phdr[i].p_memsz;
          if (info->dlpi_phdr[i].p_type == PT_TLS && data && data <= &anchor && &anchor < data + bytes)
            segment = {const_cast<unsigned char*>(data), bytes};
        }
        return 0;
      },
      &found);
  return found;
}

Segment segment;

#if defined(__SANITIZE_ADDRESS__)
__attribute__((no_sanitize_address))
#endif
void copy_bytes(unsigned char* to, const unsigned char* from, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] = from[i];
}

void make_resident(Block* block) {
  if (block == resident) return;
  if (resident) copy_bytes(resident->static_storage.data(), segment.data, segment.bytes);
  copy_bytes(segment.data, block->static_storage.data(), segment.bytes);
  resident = block;
}

// --- threads --------------------------------------------------------------------------------------------------------

void switch_to(Fiber* from, Fiber* to, bool from_ends = false) {
  if (to->block) make_resident(to->block);
  current = to->block ? to : nullptr;
  switch_context(from->context, to->context, from_ends);
}

void wake(Fiber& fiber) {
  fiber.wait = Wait::kNothing;
  awakened.push_back(&fiber);
}

void release_block(Block& block) {
  const Fiber* first = nullptr;
  block.at_barrier = 0;
  block.result = block.votes;
  block.votes = 0;
  for (unsigned i = 0; i < block.threads; ++i) {
    Fiber& fiber = block.fibers[i];
    if (fiber.wait != Wait::kBlockBarrier) continue;
    if (!first) first = &fiber;
    if (first->place.line() != fiber.place.line())
      fault("divergent __syncthreads: thread " + std::to_string(first->linear) + " waits at " +
            describe(first->place) + ", thread " + std::to_string(fiber.linear) + " at " + describe(fiber.place));
    wake(fiber);
  }
}

// The next thread to run, or the scheduler when there is none.
Fiber* next_fiber(Block* block) {
  if (block && block->alive && block->at_barrier == block->alive) release_block(*block);
  if (alive && at_group_barrier == alive) {
    at_group_barrier = 0;
    for (Fiber& fiber : fibers)
      if (fiber.wait == Wait::kGroupBarrier) wake(fiber);
  }
  if (ready.empty()) {
    std::sort(awakened.begin(), awakened.end());
    put_in_order(awakened);
    ready.assign(awakened.rbegin(), awakened.rend());
    awakened.clear();
  }
  if (ready.empty()) return &scheduler;
  Fiber* next = ready.back();
  ready.pop_back();
  return next;
}

void yield() {
  Fiber* self = current;
  Fiber* next = next_fiber(self->block);
  if (next != self) switch_to(self, next);
}

// Where every fiber begins. A fault inside a kernel ends the launch; the other fibers are left as they are.
[[noreturn]] void fiber_main() {
  entered();
  Fiber* next = &scheduler;
  Fiber* self = current;
  try {
    thread_body(thread_context);
    self->wait = Wait::kExited;
    --self->block->alive;
    --alive;
    next = next_fiber(self->block);
  } catch (...) {
    failure = std::current_exception();
  }
  switch_to(self, next, true);
  __builtin_unreachable();
}

// --- blocks ---------------------------------------------------------------------------------------------------------

void begin_block(Block& block, const Launch& launch, uint64_t linear) {
  block.linear = linear;
  block.index = {static_cast<unsigned>(linear % launch.grid.x),
                 static_cast<unsigned>(linear / launch.grid.x % launch.grid.y),
                 static_cast<unsigned>(linear / launch.grid.x / launch.grid.y)};
  block.alive = block.threads;
  block.at_barrier = 0;
  block.votes = 0;
  std::fill_n(block.dynamic_shared, launch.shared_bytes, kPoison);
  std::fill_n(block.dynamic_shared + launch.shared_bytes, kCanaryBytes, kCanary);
  std::fill(block.static_storage.begin(), block.static_storage.end(), kPoison);
  block.exchanges.assign((block.threads + kWarpSize - 1) / kWarpSize, {});
}

void end_block(const Block& block, size_t shared_bytes) {
  for (size_t i = 0; i < kCanaryBytes; ++i)
    if (block.dynamic_shared[shared_bytes + i] != kCanary)
      fault("block " + std::to_string(block.linear) + " wrote behind its " + std::to_string(shared_bytes) +
            " bytes of dynamic shared memory");
}

std::string deadlock() {
  std::map<std::string, unsigned> waiting;
  for (const Fiber& fiber : fibers) {
    if (fiber.wait == Wait::kExited) continue;
    const char* what = fiber.wait == Wait::kBlockBarrier   ? "__syncthreads"
                       : fiber.wait == Wait::kGroupBarrier ? "a cluster or grid barrier"
                                                           : "a warp operation";
    ++waiting[std::string(what) + " at " + describe(fiber.place)];
  }
  std::string text = "deadlock:";
  for (const auto& [where, count] : waiting) text += " " + std::to_string(count) + " threads wait in " + where + ";";
  return text + " " + std::to_string(fibers.size() - alive) + " have exited";
}

void run_group(std::vector<Block>& blocks, size_t shared_bytes) {
  resident = nullptr;
  alive = static_cast<unsigned>(fibers.size());
  at_group_barrier = 0;
  failure = nullptr;
  ready.clear();
  awakened.clear();
  for (size_t i = 0; i < fibers.size(); ++i) {
    fibers[i].context = make_context(i, &fiber_main);
    wake(fibers[i]);
  }
  switch_to(&scheduler, next_fiber(nullptr));
  current = nullptr;
  if (failure) std::rethrow_exception(failure);
  if (alive) fault(deadlock());
  for (const Block& block : blocks) end_block(block, shared_bytes);
}

// As the driver would answer.
int check(const Launch& launch) {
  const uint64_t threads = launch.block.count();
  const auto limit = shared_limits.find(launch.kernel);
  const size_t allowed = limit == shared_limits.end() ? kSharedDefault : std::max<size_t>(kSharedDefault, limit->second);
  if (threads == 0 || threads > kMaxThreads || launch.block.z > kMaxBlockZ) return kInvalidConfiguration;
  if (launch.grid.count() == 0 || launch.grid.x > 2147483647u || launch.grid.y > kMaxGridYZ || launch.grid.z > kMaxGridYZ)
    return kInvalidConfiguration;
  if (launch.shared_bytes > allowed) return kInvalidValue;
  if (launch.grid.count() % launch.blocks_together != 0) return kInvalidConfiguration;
  if (!launch.cooperative && launch.blocks_together > kMaxCluster) return kInvalidConfiguration;
  return kSuccess;
}

void make_blocks(std::vector<Block>& blocks, const Launch& launch) {
  const auto threads = static_cast<unsigned>(launch.block.count());
  fibers.assign(blocks.size() * threads, Fiber{});
  reserve_stacks(fibers.size());
  for (unsigned rank = 0; rank < blocks.size(); ++rank) {
    Block& block = blocks[rank];
    block.grid = launch.grid;
    block.size = launch.block;
    block.rank = rank;
    block.threads = threads;
    block.fibers = fibers.data() + size_t(rank) * threads;
    block.static_storage.resize(segment.bytes);
    block.dynamic_storage.resize(launch.shared_bytes + kCanaryBytes + 128);
    const auto raw = reinterpret_cast<uintptr_t>(block.dynamic_storage.data());
    block.dynamic_shared = reinterpret_cast<unsigned char*>((raw + 127) / 128 * 128);
    for (unsigned i = 0; i < threads; ++i) {
      Fiber& fiber = block.fibers[i];
      fiber.block = &block;
      fiber.linear = i;
      fiber.index = {i % launch.block.x, i / launch.block.x % launch.block.y, i / launch.block.x / launch.block.y};
    }
  }
}

void run_groups(const Launch& launch) {
  segment = static_shared();
  std::vector<Block> blocks(launch.blocks_together);
  make_blocks(blocks, launch);
  together = &blocks;
  random_state = seed * 0x9e3779b97f4a7c15ull | 1;
  std::vector<uint64_t> groups(launch.grid.count() / launch.blocks_together);
  for (size_t i = 0; i < groups.size(); ++i) groups[i] = i;
  put_in_order(groups);
  for (const uint64_t group : groups) {
    for (Block& block : blocks) begin_block(block, launch, group * launch.blocks_together + block.rank);
    run_group(blocks, launch.shared_bytes);
  }
}

}  // namespace

int run(const Launch& launch, void (*body)(void*), void* context) {
  if (const int error = check(launch)) return error;
  thread_body = body;
  thread_context = context;
  try {
    run_groups(launch);
  } catch (const std::exception& error) {
    last_error = error.what();
    together = nullptr;
    return kLaunchFailure;
  }
  together = nullptr;
  return kSuccess;
}

int allow_shared(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > kSharedMost) return kInvalidValue;
  shared_limits[kernel] = bytes;
  return kSuccess;
}

void fault(const std::string& text) { throw std::runtime_error("cusim: " + text); }

std::string describe(Place place) {
  const std::string file = place.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(place.line());
}

int block_barrier(int vote, Place place) {
  Block& block = *current->block;
  block.votes += vote;
  current->wait = Wait::kBlockBarrier;
  current->place = place;
  ++block.at_barrier;
  yield();
  return block.result;
}

void group_barrier(Place place) {
  current->wait = Wait::kGroupBarrier;
  current->place = place;
  ++at_group_barrier;
  yield();
}

void maybe_yield() {
  const bool due = ++patience % kPatience == 0;
  if (!due && (order != Order::kRandom || random_number() % 2)) return;
  wake(*current);
  yield();
}

uint32_t existing_lanes(uint32_t mask) {
  const unsigned warp = current->linear / kWarpSize * kWarpSize, lanes = current->block->threads - warp;
  return lanes >= kWarpSize ? mask : mask & ((1u << lanes) - 1);
}

const uint64_t* exchange(uint32_t mask, uint64_t value, const char* operation, Place place) {
  const uint32_t wanted = existing_lanes(mask);
  const unsigned self = lane(), first = current->linear - self;
  if (!(wanted >> self & 1))
    fault(std::string(operation) + " at " + describe(place) + ": lane " + std::to_string(self) +
          " is not in its own mask");
  std::vector<Exchange>& open = current->block->exchanges[first / kWarpSize];
  auto meeting = std::find_if(open.begin(), open.end(), [&](const Exchange& e) { return e.mask == wanted; });
  if (meeting == open.end()) meeting = open.insert(open.end(), {wanted, 0, operation, {}});
  if (std::strcmp(meeting->operation, operation) != 0)
    fault("lanes of one warp meet in " + std::string(meeting->operation) + " and, at " + describe(place) + ", in " +
          operation);
  meeting->values[self] = value;
  meeting->arrived |= 1u << self;
  Fiber& own = *current;
  if (meeting->arrived != wanted) {
    own.wait = Wait::kWarp;
    own.place = place;
    yield();
    return own.received;
  }
  for (uint32_t lanes = wanted; lanes; lanes &= lanes - 1) {
    Fiber& fiber = own.block->fibers[first + __builtin_ctz(lanes)];
    std::copy_n(meeting->values, kWarpSize, fiber.received);
    if (&fiber != &own) wake(fiber);
  }
  open.erase(meeting);
  return own.received;
}

}  // namespace cusim

// What the tests call.
extern "C" {
__attribute__((visibility("default"))) void cusim_configure(int order, uint64_t seed) {
  cusim::order = static_cast<cusim::Order>(order);
  cusim::seed = seed;
}
__attribute__((visibility("default"))) const char* cusim_error() { return cusim::last_error.c_str(); }
}
