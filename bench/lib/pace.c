// A load generator that keeps a fixed rate: request number i is due at start + i / RATE, whatever
// happened to the ones before it, and its latency counts from the moment it was due.
//
// usage: pace PORT RATE SECONDS CONNECTIONS < request      (loopback only, one thread)
// prints: answered=N errors=N p50_us=F p99_us=F max_us=F
//
// An answer must be 200 with a Content-Length; anything else counts as an error.

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "loopback.h"

enum { HEAD = 16 * 1024, GRACE_NS = 1000000000 };

struct connection {
    int fd;
    int64_t due;       // of the request under way
    size_t got;        // bytes in `head`
    int64_t body_left; // -1 while the head is incomplete
    char head[HEAD];
};

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// Takes what has arrived. 0: more to come, 1: the answer is complete, -1: not an answer.
static int take(struct connection *c) {
    static char sink[256 * 1024];
    if (c->body_left >= 0) {
        ssize_t n = recv(c->fd, sink, sizeof sink, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0 || n > c->body_left) return -1;
        c->body_left -= n;
        return c->body_left == 0;
    }
    ssize_t n = recv(c->fd, c->head + c->got, HEAD - 1 - c->got, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) return -1;
    c->got += n;
    c->head[c->got] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) return c->got < HEAD - 1 ? 0 : -1;
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (strncmp(c->head, "HTTP/1.1 200", 12) || !length || length > end) return -1;
    c->body_left = atoll(length + 17) - (int64_t)(c->got - (end + 4 - c->head));
    return c->body_left < 0 ? -1 : c->body_left == 0;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: pace PORT RATE SECONDS CONNECTIONS < request\n");
        return 2;
    }
    int port = atoi(argv[1]), connections = atoi(argv[4]);
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    static char request[64 * 1024];
    size_t request_size = fread(request, 1, sizeof request, stdin);
    int64_t total = rate * seconds;
    int64_t *latency = malloc(sizeof *latency * (total + 1));
    struct connection *all = calloc(connections, sizeof *all);
    int *idle = malloc(sizeof *idle * connections); // a ring, so that every connection is used
    int idle_first = 0, idle_count = 0;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!latency || !all || !idle || epoll_fd < 0) die("start");
    prctl(PR_SET_TIMERSLACK, 1);
    for (int i = 0; i < connections; i++) {
        all[i].fd = dial(port);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, all[i].fd, &event);
        idle[idle_count++] = i;
    }

    int64_t start = now_ns(), sent = 0, answered = 0, errors = 0;
    int64_t deadline = start + (int64_t)(seconds * 1e9) + GRACE_NS;
    while (answered + errors < total) {
        int64_t now = now_ns();
        if (now > deadline) break;
        while (sent < total && idle_count) {
            int64_t due = start + (int64_t)(sent * 1e9 / rate);
            if (due > now) break;
            struct connection *c = &all[idle[idle_first]];
            idle_first = (idle_first + 1) % connections;
            idle_count--;
            c->due = due;
            c->got = 0;
            c->body_left = -1;
            if (write(c->fd, request, request_size) != (ssize_t)request_size) die("write");
            sent++;
        }
        int64_t until = deadline;
        if (sent < total && idle_count) until = start + (int64_t)(sent * 1e9 / rate);
        int64_t wait = until - now_ns();
        if (wait < 0) wait = 0;
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};
        struct epoll_event events[64];
        int count = epoll_pwait2(epoll_fd, events, 64, &timeout, NULL);
        for (int i = 0; i < count; i++) {
            int index = events[i].data.u32;
            struct connection *c = &all[index];
            int state = take(c);
            if (state == 0) continue;
            if (state > 0) {
                latency[answered++] = now_ns() - c->due;
            } else {
                errors++;
                close(c->fd);
                c->fd = dial(port);
                struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
                epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
            }
            idle[(idle_first + idle_count++) % connections] = index;
        }
    }
    errors += sent - answered - errors;
    qsort(latency, answered, sizeof *latency, ascending);
    double p50 = answered ? latency[answered / 2] / 1e3 : 0;
    double p99 = answered ? latency[answered * 99 / 100] / 1e3 : 0;
    double max = answered ? latency[answered - 1] / 1e3 : 0;
    printf("answered=%lld errors=%lld p50_us=%.1f p99_us=%.1f max_us=%.1f\n", (long long)answered,
           (long long)errors, p50, p99, max);
    return 0;
}
