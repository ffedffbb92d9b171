/* The wall clock of a process, told by a file: nanoseconds since the epoch. Monotonic clocks and sleeps stay real. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t now(void) {
    static volatile int64_t *told;
    if (told == NULL) {
        int file = open(getenv("STEPPED_CLOCK"), O_RDONLY);
        void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *told, PROT_READ, MAP_SHARED, file, 0);
        if (map == MAP_FAILED) _exit(97);
        told = map;
    }
    return *told;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return syscall(SYS_clock_gettime, clock, out);
    int64_t at = now();
    out->tv_sec = at / 1000000000;
    out->tv_nsec = at % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    int64_t at = now();
    out->tv_sec = at / 1000000000;
    out->tv_usec = at % 1000000000 / 1000;
    return 0;
}

time_t time(time_t *out) {
    time_t at = now() / 1000000000;
    if (out != NULL) *out = at;
    return at;
}
