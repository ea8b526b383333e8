/*
 * Preloaded into a process under test: notes every write and flush of the files whose names end as WRITE_LOG_NAMES says
 * (separated by colons), in the order in which they took effect, into the file WRITE_LOG.
 *
 * A record: kind (1), number of the name (1), durable at once (1), 5 bytes unused, offset (8), length (8), bytes.
 * Kinds: W write, T truncate (offset: new size), B begin of a flush, E end of a flush (offset: number of its begin).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES_MAX 4096
static struct { char name; char sync; off_t at; } files[FILES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static uint64_t flushes = 0;

static int (*real_open64)(const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite64)(int, const void *, size_t, off64_t);
static int (*real_fdatasync)(int);
static int (*real_fsync)(int);
static int (*real_ftruncate64)(int, off64_t);
static int (*real_close)(int);
static off64_t (*real_lseek64)(int, off64_t, int);

__attribute__((constructor)) static void start(void) {
  real_open64 = dlsym(RTLD_NEXT, "open64");
  real_write = dlsym(RTLD_NEXT, "write");
  real_writev = dlsym(RTLD_NEXT, "writev");
  real_pwrite64 = dlsym(RTLD_NEXT, "pwrite64");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_ftruncate64 = dlsym(RTLD_NEXT, "ftruncate64");
  real_close = dlsym(RTLD_NEXT, "close");
  real_lseek64 = dlsym(RTLD_NEXT, "lseek64");
  const char *path = getenv("WRITE_LOG");
  if (path != NULL) log_fd = real_open64(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

static void record(char kind, int fd, uint64_t offset, const void *bytes, uint64_t length) {
  char head[24] = { kind, files[fd].name - 1, files[fd].sync };
  memcpy(head + 8, &offset, 8);
  memcpy(head + 16, &length, 8);
  struct iovec parts[2] = { { head, sizeof head }, { (void *)bytes, bytes == NULL ? 0 : length } };
  if (real_writev(log_fd, parts, 2) < 0) abort();
}

static int watched(int fd) {
  return log_fd >= 0 && fd >= 0 && fd < FILES_MAX && files[fd].name != 0;
}

static void opened(int fd, const char *path, int flags) {
  if (log_fd < 0 || fd < 0 || fd >= FILES_MAX) return;
  const char *names = getenv("WRITE_LOG_NAMES");
  files[fd].name = 0;
  for (char number = 1; names != NULL && *names != 0; number += 1) {
    const char *end = strchrnul(names, ':');
    size_t length = end - names, path_length = strlen(path);
    if (path_length >= length && strncmp(path + path_length - length, names, length) == 0) {
      files[fd].name = number;
      files[fd].sync = (flags & O_DSYNC) != 0;
      files[fd].at = 0;
    }
    names = *end == 0 ? end : end + 1;
  }
}

int open64(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = va_arg(more, mode_t);
  va_end(more);
  int fd = real_open64(path, flags, mode);
  opened(fd, path, flags);
  return fd;
}

int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = va_arg(more, mode_t);
  va_end(more);
  int fd = real_open64(path, flags, mode);
  opened(fd, path, flags);
  return fd;
}

int close(int fd) {
  if (fd >= 0 && fd < FILES_MAX) files[fd].name = 0;
  return real_close(fd);
}

off64_t lseek64(int fd, off64_t offset, int whence) {
  off64_t at = real_lseek64(fd, offset, whence);
  if (watched(fd)) files[fd].at = at;
  return at;
}

off_t lseek(int fd, off_t offset, int whence) {
  return lseek64(fd, offset, whence);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
  if (!watched(fd)) return real_pwrite64(fd, bytes, length, offset);
  pthread_mutex_lock(&lock);
  ssize_t written = real_pwrite64(fd, bytes, length, offset);
  if (written > 0) record('W', fd, offset, bytes, written);
  pthread_mutex_unlock(&lock);
  return written;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  if (!watched(fd)) return real_write(fd, bytes, length);
  pthread_mutex_lock(&lock);
  ssize_t written = real_write(fd, bytes, length);
  if (written > 0) {
    record('W', fd, files[fd].at, bytes, written);
    files[fd].at += written;
  }
  pthread_mutex_unlock(&lock);
  return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (!watched(fd)) return real_writev(fd, parts, count);
  ssize_t total = 0;
  for (int index = 0; index < count; index += 1) {
    ssize_t written = write(fd, parts[index].iov_base, parts[index].iov_len);
    if (written < 0) return total > 0 ? total : written;
    total += written;
    if ((size_t)written < parts[index].iov_len) break;
  }
  return total;
}

static int flush(int fd, int (*real)(int)) {
  if (!watched(fd)) return real(fd);
  pthread_mutex_lock(&lock);
  uint64_t number = flushes++;
  record('B', fd, number, NULL, 0);
  pthread_mutex_unlock(&lock);
  int result = real(fd);
  pthread_mutex_lock(&lock);
  if (result == 0) record('E', fd, number, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}

int fdatasync(int fd) { return flush(fd, real_fdatasync); }
int fsync(int fd) { return flush(fd, real_fsync); }

int ftruncate64(int fd, off64_t size) {
  if (!watched(fd)) return real_ftruncate64(fd, size);
  pthread_mutex_lock(&lock);
  int result = real_ftruncate64(fd, size);
  if (result == 0) record('T', fd, size, NULL, 0);
  pthread_mutex_unlock(&lock);
  return result;
}
