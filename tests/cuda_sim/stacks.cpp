#include "cusim/stacks.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

#include "cusim/scheduler.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#error "cusim switches fibers with x86-64 instructions"
#endif

// Saves the registers a function must keep on the running stack, its pointer in *save, and takes up the other stack.
extern "C" void cusim_switch(void** save, void* load);
asm(R"(
.text
.globl cusim_switch
.hidden cusim_switch
.type cusim_switch,@function
cusim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cusim_switch,.-cusim_switch
)");

namespace cusim {
namespace {

constexpr int kSavedRegisters = 6;

unsigned char* stacks = nullptr;
size_t stack_count = 0;
#if defined(__SANITIZE_ADDRESS__)
const void* launching_stack = nullptr;
size_t launching_stack_bytes = 0;
#endif

// Takes away what AddressSanitizer still knows of the frames of a fiber that ended or was left.
void unmark([[maybe_unused]] unsigned char* memory, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace

void reserve_stacks(size_t count) {
  if (count <= stack_count) return;
  if (stacks) {
    unmark(stacks, stack_count * kStackBytes);
    munmap(stacks, stack_count * kStackBytes);
  }
  stacks = nullptr;
  stack_count = 0;
  void* memory = mmap(nullptr, count * kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fault("no memory for the stacks of " + std::to_string(count) + " threads");
  stacks = static_cast<unsigned char*>(memory);
  stack_count = count;
  for (size_t i = 0; i < count; ++i) mprotect(stacks + i * kStackBytes, kPageBytes, PROT_NONE);
}

Context make_context(size_t slot, void (*entry)()) {
  unsigned char* stack = stacks + slot * kStackBytes;
  unmark(stack + kPageBytes, kStackBytes - kPageBytes);
  auto* words = reinterpret_cast<void**>(stack + kStackBytes);
  *--words = nullptr;  // entry's return address: never used, keeps the stack aligned
  *--words = reinterpret_cast<void*>(entry);
  words -= kSavedRegisters;
  std::memset(words, 0, kSavedRegisters * sizeof(void*));
  return {words, stack};
}

void entered() {
#if defined(__SANITIZE_ADDRESS__)
  const void* stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (!launching_stack) {
    launching_stack = stack;
    launching_stack_bytes = bytes;
  }
#endif
}

void switch_context(Context& from, const Context& to, [[maybe_unused]] bool ends) {
#if defined(__SANITIZE_ADDRESS__)
  void* fake = nullptr;
  const void* bottom = to.stack ? to.stack + kPageBytes : launching_stack;
  __sanitizer_start_switch_fiber(ends ? nullptr : &fake, bottom,
                                 to.stack ? kStackBytes - kPageBytes : launching_stack_bytes);
  cusim_switch(&from.stack_pointer, to.stack_pointer);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
  cusim_switch(&from.stack_pointer, to.stack_pointer);
#endif
}

}  // namespace cusim
