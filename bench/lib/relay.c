// The floor: a TCP relay that knows no HTTP, with one connection to the origin for each client
// connection. It does the reads and writes that any proxy must do and nothing else, so its CPU
// time per request is what a proxy of this shape cannot get below.
//
// usage: relay LISTEN_PORT ORIGIN_PORT        (loopback only, one thread)

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loopback.h"

enum { SCRATCH = 256 * 1024, EVENTS = 256 };

struct pair;

// One socket of a pair. `pending` holds what was read from the peer and not yet taken by this
// socket; while it is not empty the peer is not read.
struct side {
    int fd;
    struct pair *pair;
    struct side *peer;
    char *pending;
    size_t from, to;
    unsigned interest;
    int connecting, ended, shut;
};

struct pair {
    struct side client, origin;
    struct pair *next_dead;
    int dead;
};

static int epoll_fd;
static char scratch[SCRATCH];
static struct pair *dead_pairs;
static struct sockaddr_in origin_address;

static void set_interest(struct side *side, unsigned interest) {
    if (side->interest == interest) return;
    struct epoll_event event = {.events = interest, .data.ptr = side};
    int operation = side->interest == ~0u ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl(epoll_fd, operation, side->fd, &event)) die("epoll_ctl");
    side->interest = interest;
}

static void update(struct side *side) {
    unsigned interest = 0;
    if (!side->ended && !side->peer->pending && !side->peer->connecting) interest |= EPOLLIN;
    if (side->pending || side->connecting) interest |= EPOLLOUT;
    set_interest(side, interest);
}

// Freed only after the batch of events, which may still name the pair.
static void bury(struct pair *pair) {
    if (pair->dead) return;
    pair->dead = 1;
    close(pair->client.fd);
    close(pair->origin.fd);
    pair->next_dead = dead_pairs;
    dead_pairs = pair;
}

static void finish_if_done(struct side *side) {
    struct side *peer = side->peer;
    if (peer->ended && !side->pending && !side->shut) {
        side->shut = 1;
        shutdown(side->fd, SHUT_WR);
    }
    if (side->shut && peer->shut) bury(side->pair);
}

static void readable(struct side *side) {
    struct side *peer = side->peer;
    ssize_t got = read(side->fd, scratch, SCRATCH);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR) bury(side->pair);
        return;
    }
    if (got == 0) {
        side->ended = 1;
        finish_if_done(peer);
        if (!side->pair->dead) update(side);
        return;
    }
    ssize_t put = write(peer->fd, scratch, got);
    if (put < 0) {
        if (errno != EAGAIN) {
            bury(side->pair);
            return;
        }
        put = 0;
    }
    if (put < got) {
        peer->pending = malloc(got - put);
        if (!peer->pending) die("malloc");
        memcpy(peer->pending, scratch + put, got - put);
        peer->from = 0;
        peer->to = got - put;
        update(peer);
        update(side);
    }
}

static void writable(struct side *side) {
    if (side->connecting) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(side->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            bury(side->pair);
            return;
        }
        side->connecting = 0;
    } else if (side->pending) {
        ssize_t put = write(side->fd, side->pending + side->from, side->to - side->from);
        if (put < 0) {
            if (errno != EAGAIN) bury(side->pair);
            return;
        }
        side->from += put;
        if (side->from == side->to) {
            free(side->pending);
            side->pending = NULL;
            finish_if_done(side);
            if (side->pair->dead) return;
        }
    }
    update(side);
    update(side->peer);
}

static void accepted(int client_fd) {
    int one = 1;
    int origin_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (origin_fd < 0) {
        close(client_fd);
        return;
    }
    setsockopt(client_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(origin_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct pair *pair = calloc(1, sizeof *pair);
    if (!pair) die("calloc");
    pair->client = (struct side){.fd = client_fd, .pair = pair, .peer = &pair->origin, .interest = ~0u};
    pair->origin = (struct side){.fd = origin_fd, .pair = pair, .peer = &pair->client, .interest = ~0u};
    if (connect(origin_fd, (struct sockaddr *)&origin_address, sizeof origin_address)) {
        if (errno != EINPROGRESS) {
            bury(pair);
            return;
        }
        pair->origin.connecting = 1;
    }
    update(&pair->client);
    update(&pair->origin);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: relay LISTEN_PORT ORIGIN_PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int one = 1;
    struct sockaddr_in address = loopback(atoi(argv[1]));
    origin_address = loopback(atoi(argv[2]));
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0) die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address)) die("bind");
    if (listen(listener, 4096)) die("listen");
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event)) die("epoll_ctl");
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct side *side = events[i].data.ptr;
            if (!side) {
                int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd >= 0) accepted(fd);
                continue;
            }
            if (side->pair->dead) continue;
            if ((events[i].events & EPOLLOUT) && (side->connecting || side->pending)) writable(side);
            if (side->pair->dead) continue;
            if (side->interest & EPOLLIN) {
                if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(side);
            } else if (events[i].events & (EPOLLHUP | EPOLLERR)) {
                bury(side->pair);
            }
        }
        while (dead_pairs) {
            struct pair *pair = dead_pairs;
            dead_pairs = pair->next_dead;
            free(pair->client.pending);
            free(pair->origin.pending);
            free(pair);
        }
    }
}
