// The load of the WebSocket case: opens the tunnels, then sends on each one small message after the
// other, the next when the last has come back, and compares what came back with what was sent.
//
// usage: talk PORT SECONDS TUNNELS < handshake      (loopback only, one thread)
// prints: answered=N errors=N seconds=F             (messages; a tunnel with an error is given up)

#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "loopback.h"

enum { PAYLOAD = 64, MASKED = 6 + PAYLOAD, PLAIN = 2 + PAYLOAD };

struct tunnel {
    int fd;
    size_t got;
    uint64_t number;       // of the message under way; stands in its first bytes
    uint8_t back[PLAIN];
};

static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void shake_hands(int fd, const char *request, size_t size) {
    char head[16 * 1024];
    size_t got = 0;
    struct timeval patience = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (write(fd, request, size) != (ssize_t)size) die("write");
    do {
        ssize_t n = recv(fd, head + got, sizeof head - 1 - got, 0);
        if (n <= 0) die("no answer to the handshake");
        got += n;
        head[got] = 0;
    } while (!strstr(head, "\r\n\r\n"));
    if (strncmp(head, "HTTP/1.1 101", 12) || strcmp(head + got - 4, "\r\n\r\n")) {
        fprintf(stderr, "not a WebSocket: %.100s\n", head);
        exit(1);
    }
}

static void payload(uint8_t *to, uint64_t number) {
    memset(to, 'm', PAYLOAD);
    memcpy(to, &number, sizeof number);
}

static int send_message(struct tunnel *t) {
    uint8_t frame[MASKED] = {0x82, 0x80 | PAYLOAD, MASK[0], MASK[1], MASK[2], MASK[3]};
    payload(frame + 6, t->number);
    for (int i = 0; i < PAYLOAD; i++) frame[6 + i] ^= MASK[i % 4];
    t->got = 0;
    return send(t->fd, frame, sizeof frame, MSG_NOSIGNAL) == sizeof frame;
}

// 0: more to come, 1: the message is back, -1: something else came.
static int take(struct tunnel *t) {
    ssize_t n = recv(t->fd, t->back + t->got, PLAIN - t->got, MSG_DONTWAIT);
    if (n <= 0) return -1;
    t->got += n;
    if (t->got < PLAIN) return 0;
    uint8_t wanted[PLAIN] = {0x82, PAYLOAD};
    payload(wanted + 2, t->number);
    return memcmp(t->back, wanted, PLAIN) ? -1 : 1;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: talk PORT SECONDS TUNNELS < handshake\n");
        return 2;
    }
    int port = atoi(argv[1]), tunnels = atoi(argv[3]);
    double seconds = atof(argv[2]);
    static char request[64 * 1024];
    size_t request_size = fread(request, 1, sizeof request, stdin);
    struct tunnel *all = calloc(tunnels, sizeof *all);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!all || epoll_fd < 0) die("start");
    for (int i = 0; i < tunnels; i++) {
        all[i].fd = dial(port);
        shake_hands(all[i].fd, request, request_size);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, all[i].fd, &event)) die("epoll_ctl");
    }

    double start = now(), end = start + seconds;
    long long answered = 0, errors = 0;
    for (int i = 0; i < tunnels; i++)
        if (!send_message(&all[i])) die("send");
    while (errors < tunnels && now() < end) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll_fd, events, 64, 100);
        for (int i = 0; i < count; i++) {
            struct tunnel *t = events[i].data.ptr;
            int state = take(t);
            if (state == 0) continue;
            answered += state > 0;
            t->number++;
            if (state < 0 || !send_message(t)) {
                errors++;
                close(t->fd);
            }
        }
    }
    printf("answered=%lld errors=%lld seconds=%.3f\n", answered, errors, now() - start);
    return 0;
}
