// Makes the N-th call that touches files below a folder fail, or kills the process there. Loaded with LD_PRELOAD;
// does nothing until wsis_arm is called. Calls are counted over all threads, in the order in which they are made.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { kOff, kCount, kKillBefore, kKillAfter, kKillTorn, kFail };
enum { kOpens = 1, kAll = 2 };

static char folder[4096];
static int mode = kOff, error_number = 0, which = kAll;
static long nth = 0;
static volatile long counted = 0;

__attribute__((visibility("default"))) void wsis_arm(const char* below, int how, long at, int number, int kind) {
  strncpy(folder, below, sizeof folder - 1);
  counted = 0, nth = at, error_number = number, which = kind;
  mode = how;
}

__attribute__((visibility("default"))) long wsis_counted(void) { return counted; }

static int inside(const char* path) {
  return path && mode != kOff && strncmp(path, folder, strlen(folder)) == 0;
}

static int inside_fd(int fd) {
  if (mode == kOff) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return inside(path);
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

// 0: go on; 1: this is the call.
static int hit(int is_open) {
  if (which == kOpens && !is_open) return 0;
  return __sync_add_and_fetch(&counted, 1) == nth && mode != kCount;
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define GUARD(touches, is_open, call) \
  if ((touches) && hit(is_open)) { \
    if (mode == kFail) { errno = error_number; return -1; } \
    if (mode == kKillAfter) (void)!(call); \
    die(); \
  } \
  return call

#define OPEN(name) \
  int name(const char* path, int flags, ...) { \
    REAL(int, #name, const char*, int, mode_t); \
    va_list list; va_start(list, flags); mode_t bits = va_arg(list, mode_t); va_end(list); \
    GUARD(inside(path), 1, real(path, flags, bits)); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int at, const char* path, int flags, ...) { \
    REAL(int, #name, int, const char*, int, mode_t); \
    va_list list; va_start(list, flags); mode_t bits = va_arg(list, mode_t); va_end(list); \
    GUARD(inside(path), 1, real(at, path, flags, bits)); \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void* data, size_t size) {
  REAL(ssize_t, "write", int, const void*, size_t);
  if (mode == kKillTorn && inside_fd(fd) && hit(0)) { (void)!real(fd, data, size / 2); die(); }
  if (mode == kKillTorn) return real(fd, data, size);
  GUARD(inside_fd(fd), 0, real(fd, data, size));
}

#define PWRITE(name, offset_type) \
  ssize_t name(int fd, const void* data, size_t size, offset_type offset) { \
    REAL(ssize_t, #name, int, const void*, size_t, offset_type); \
    if (mode == kKillTorn && inside_fd(fd) && hit(0)) { (void)!real(fd, data, size / 2, offset); die(); } \
    if (mode == kKillTorn) return real(fd, data, size, offset); \
    GUARD(inside_fd(fd), 0, real(fd, data, size, offset)); \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

int fsync(int fd) {
  REAL(int, "fsync", int);
  GUARD(inside_fd(fd), 0, real(fd));
}

#define TRUNCATE(name, offset_type) \
  int name(int fd, offset_type size) { \
    REAL(int, #name, int, offset_type); \
    GUARD(inside_fd(fd), 0, real(fd, size)); \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int rename(const char* from, const char* to) {
  REAL(int, "rename", const char*, const char*);
  GUARD(inside(to), 0, real(from, to));
}

int unlink(const char* path) {
  REAL(int, "unlink", const char*);
  GUARD(inside(path), 0, real(path));
}

int mkdir(const char* path, mode_t bits) {
  REAL(int, "mkdir", const char*, mode_t);
  GUARD(inside(path), 0, real(path, bits));
}
