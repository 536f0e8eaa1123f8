// The peer: the echo server in plain C, epoll and one buffer per connection. Prints `listening PORT`.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIZE = 65536 };
struct connection {
    int fd;
    size_t in, out;
    char input[SIZE], output[SIZE];
};

static int serve(struct connection *c) {
    ssize_t n = recv(c->fd, c->input + c->in, SIZE - c->in, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
    c->in += (size_t)n;
    size_t at = 0;
    while (c->in - at >= 4) {
        uint32_t length;
        memcpy(&length, c->input + at, 4);
        length = ntohl(length);
        if (length > 32768) return -1;
        if (c->in - at < 4 + (size_t)length) break;
        memcpy(c->output + c->out, c->input + at, 4 + length);
        c->out += 4 + length;
        at += 4 + length;
    }
    memmove(c->input, c->input + at, c->in - at);
    c->in -= at;
    if (c->out == 0) return 0;
    n = send(c->fd, c->output, c->out, MSG_NOSIGNAL);
    // The load client reads all replies before it sends more, so the socket never fills up.
    if (n != (ssize_t)c->out) return -1;
    c->out = 0;
    return 0;
}

int main(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 128)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (fd < 0) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                c = calloc(1, sizeof *c);
                c->fd = fd;
                event = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
                epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
            } else if (serve(c) != 0) {
                close(c->fd);
                free(c);
            }
        }
    }
}
