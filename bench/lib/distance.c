// How far apart two cores are at this moment: the time in ns that a cache line needs to go from
// one to the other and back. On a virtual machine the host may move the cores between near and far
// places from one second to the next, and a request that crosses them then costs twice as much in
// the kernel, whatever the proxy. The runner looks at this before and after each cell.
//
// usage: distance CORE CORE        prints: ns

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCHES = 15, TURNS = 1500 };

static _Alignas(256) atomic_uint ball;

static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *returner(void *core) {
    pin((int)(intptr_t)core);
    for (unsigned turn = 0; turn < BATCHES * TURNS; turn++) {
        while (atomic_load_explicit(&ball, memory_order_acquire) != 2 * turn + 1) {
        }
        atomic_store_explicit(&ball, 2 * turn + 2, memory_order_release);
    }
    return NULL;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: distance CORE CORE\n");
        return 2;
    }
    pthread_t thread;
    double batches[BATCHES];
    unsigned turn = 0;
    pin(atoi(argv[1]));
    if (pthread_create(&thread, NULL, returner, (void *)(intptr_t)atoi(argv[2]))) return 1;
    for (int batch = 0; batch < BATCHES; batch++) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (int i = 0; i < TURNS; i++, turn++) {
            atomic_store_explicit(&ball, 2 * turn + 1, memory_order_release);
            while (atomic_load_explicit(&ball, memory_order_acquire) != 2 * turn + 2) {
            }
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        batches[batch] = ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / TURNS;
    }
    pthread_join(thread, NULL);
    // The median: a batch in which one of the two threads was off its core says nothing.
    qsort(batches, BATCHES, sizeof *batches, ascending);
    printf("%.0f\n", batches[BATCHES / 2]);
    return 0;
}
