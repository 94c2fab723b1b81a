// The origin of the WebSocket case: sends every message back. A request that asks for no WebSocket
// gets an empty 200 and the end of the connection.
//
// usage: echo PORT      (loopback only, one thread)
//
// It serves talk.c and no more than that: one Sec-WebSocket-Key, whose answer stands in RFC 6455,
// section 1.3, and whole masked messages below 126 bytes. Anything else ends the connection.

#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loopback.h"

enum { ROOM = 16 * 1024, MOST = 126, MASKED_HEAD = 6, PLAIN_HEAD = 2 };

struct connection {
    int fd, open; // open: the handshake is done
    size_t got;
    char data[ROOM];
};

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
                             "Connection: close\r\n\r\n";
static const char WELCOME[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                              "Connection: Upgrade\r\n"
                              "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static int say(struct connection *c, const char *data, size_t size) {
    return send(c->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static void drop(struct connection *c, size_t used) {
    memmove(c->data, c->data + used, c->got - used);
    c->got -= used;
}

// Each of these: 0 ends the connection.
static int take_request(struct connection *c) {
    c->data[c->got] = 0;
    char *end = strstr(c->data, "\r\n\r\n");
    if (!end) return c->got < ROOM - 1;
    end[2] = 0;
    int upgrade = strcasestr(c->data, "\r\nupgrade: websocket\r\n") != NULL;
    if (upgrade && !strcasestr(c->data, "\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"))
        return 0;
    drop(c, end + 4 - c->data);
    c->open = upgrade;
    if (upgrade) return say(c, WELCOME, sizeof WELCOME - 1);
    say(c, ANSWER, sizeof ANSWER - 1);
    return 0;
}

static int take_messages(struct connection *c) {
    static char out[ROOM];
    size_t used = 0, size = 0;
    while (c->got - used >= MASKED_HEAD) {
        uint8_t *frame = (uint8_t *)c->data + used;
        size_t length = frame[1] & 0x7f;
        if (frame[0] != 0x82 || !(frame[1] & 0x80) || length >= MOST) return 0;
        if (c->got - used < MASKED_HEAD + length) break;
        out[size] = (char)frame[0];
        out[size + 1] = (char)length;
        for (size_t i = 0; i < length; i++)
            out[size + PLAIN_HEAD + i] = (char)(frame[MASKED_HEAD + i] ^ frame[2 + i % 4]);
        used += MASKED_HEAD + length;
        size += PLAIN_HEAD + length;
    }
    drop(c, used);
    return !size || say(c, out, size);
}

static void welcome(int listener, int epoll_fd) {
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *c = calloc(1, sizeof *c);
    if (!c) die("calloc");
    c->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static int serve(struct connection *c) {
    ssize_t n = recv(c->fd, c->data + c->got, ROOM - 1 - c->got, 0);
    if (n <= 0) return 0;
    c->got += n;
    return c->open ? take_messages(c) : take_request(c);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: echo PORT\n");
        return 2;
    }
    struct sockaddr_in address = loopback(atoi(argv[1]));
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
        die("listen");
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event)) die("epoll");
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll_fd, events, 64, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                welcome(listener, epoll_fd);
            } else if (!serve(c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}
