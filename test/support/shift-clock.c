/*
 * Preloaded into a process: its calendar is CLOCK_SHIFT_S seconds off, backwards if negative. Clocks that count from some
 * start of their own, which no host shares with another, are left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static time_t shift_s = 0;

__attribute__((constructor)) static void start(void) {
  const char *seconds = getenv("CLOCK_SHIFT_S");
  real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  if (seconds != NULL) shift_s = atol(seconds);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  /* Somebody may ask before the constructor has run. */
  if (real_clock_gettime == NULL) start();
  int result = real_clock_gettime(clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift_s;
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec exact;
  int result = clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return result;
}

time_t time(time_t *now) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (now != NULL) *now = exact.tv_sec;
  return exact.tv_sec;
}
