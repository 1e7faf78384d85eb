// What the mock and the load generator of the bench share: sockets, a clock, and reading the head of a message.
// Linux only, no dependencies. Neither may ever be the bottleneck: both cost a few microseconds a request.

#ifndef WIRE_H
#define WIRE_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/// Both sides read the same clock, so that a time in an event can be compared by whoever gets it.
static inline int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void die(const char *what) {
  perror(what);
  exit(1);
}

static inline struct sockaddr_in local_address(int port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

static inline void no_delay(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline void watch(int ep, int fd, uint32_t events, void *who, int op) {
  struct epoll_event e = {.events = events, .data.ptr = who};
  if (epoll_ctl(ep, op, fd, &e) < 0) die("epoll_ctl");
}

/// The value of a header, or NULL; `name` in lower case with its colon. The head ends with an empty line.
static inline const char *header(const char *head, size_t size, const char *name) {
  size_t length = strlen(name);
  const char *end = head + size;
  const char *line = memchr(head, '\n', size);
  while (line != NULL && line + 1 + length < end) {
    line += 1;
    if (strncasecmp(line, name, length) == 0) {
      line += length;
      while (*line == ' ') line += 1;
      return line;
    }
    line = memchr(line, '\n', (size_t)(end - line));
  }
  return NULL;
}

/// Reads a chunked body from any cut. `at` counts what is left of the present chunk.
enum chunk_state { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_AFTER, CHUNK_TRAILER, CHUNK_END };
struct chunked {
  enum chunk_state state;
  size_t left;
  /// Length of the present line of the trailer.
  size_t line;
};

/// Takes bytes, calls `data` for what is content; returns how many bytes were taken. `state` is CHUNK_END at the end.
static inline size_t chunked_take(struct chunked *c, const char *p, size_t n,
                                  void (*data)(void *, const char *, size_t), void *who) {
  size_t i = 0;
  while (i < n && c->state != CHUNK_END) {
    char b = p[i];
    switch (c->state) {
    case CHUNK_SIZE:
      i += 1;
      if (b >= '0' && b <= '9') c->left = c->left * 16 + (size_t)(b - '0');
      else if (b >= 'a' && b <= 'f') c->left = c->left * 16 + (size_t)(b - 'a' + 10);
      else if (b >= 'A' && b <= 'F') c->left = c->left * 16 + (size_t)(b - 'A' + 10);
      else if (b == '\n') {
        c->state = c->left == 0 ? CHUNK_TRAILER : CHUNK_DATA;
        c->line = 0;
      } else if (b != '\r') c->state = CHUNK_EXTENSION;
      break;
    case CHUNK_EXTENSION:
      i += 1;
      if (b == '\n') {
        c->state = c->left == 0 ? CHUNK_TRAILER : CHUNK_DATA;
        c->line = 0;
      }
      break;
    case CHUNK_DATA: {
      size_t take = n - i < c->left ? n - i : c->left;
      data(who, p + i, take);
      i += take;
      c->left -= take;
      if (c->left == 0) c->state = CHUNK_AFTER;
      break;
    }
    case CHUNK_AFTER:
      i += 1;
      if (b == '\n') c->state = CHUNK_SIZE;
      break;
    case CHUNK_TRAILER:
      i += 1;
      if (b == '\n') {
        if (c->line == 0) c->state = CHUNK_END;
        c->line = 0;
      } else if (b != '\r') c->line += 1;
      break;
    case CHUNK_END:
      break;
    }
  }
  return i;
}

#endif
