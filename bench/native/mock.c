// A provider that costs next to nothing: answers a chat at once with a whole reply, or with a stream of events each of
// which carries the time it was sent at, as OpenAI does or, at /v1/messages, as Anthropic does. Usage: mock PORT EVENTS
// GAP_MS FIRST_MS. Prints "ready".

#include "wire.h"

enum { MOST_BYTES = 1 << 20, MOST_FDS = 65536 };

struct connection {
  int fd;
  char *in;
  size_t used, room;
  /// Events still to be sent; -1 while no stream is under way.
  int left;
  int wants_usage;
  int is_messages;
  int64_t due;
  /// Place in the heap, -1 when it is not there.
  int place;
};

static int events = 100;
static int64_t gap_ns, first_ns;
static struct connection *heap[MOST_FDS];
static int waiting = 0;

// --- who is due next -------------------------------------------------------------------------------------------

static void put(int at, struct connection *c) {
  heap[at] = c;
  c->place = at;
}

static void rise(int at, struct connection *c) {
  while (at > 0 && heap[(at - 1) / 2]->due > c->due) {
    put(at, heap[(at - 1) / 2]);
    at = (at - 1) / 2;
  }
  put(at, c);
}

static void sink(int at, struct connection *c) {
  for (;;) {
    int child = at * 2 + 1;
    if (child >= waiting) break;
    if (child + 1 < waiting && heap[child + 1]->due < heap[child]->due) child += 1;
    if (heap[child]->due >= c->due) break;
    put(at, heap[child]);
    at = child;
  }
  put(at, c);
}

static void remove_from_heap(struct connection *c) {
  if (c->place < 0) return;
  int at = c->place;
  c->place = -1;
  waiting -= 1;
  if (at == waiting) return;
  struct connection *last = heap[waiting];
  if (at > 0 && heap[(at - 1) / 2]->due > last->due) rise(at, last);
  else sink(at, last);
}

// --- answers ---------------------------------------------------------------------------------------------------

struct whole {
  char bytes[2048];
  size_t size;
};
static struct whole chat, messages;
static const char STREAM_HEAD[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                                  "x-request-id: req_mock\r\ntransfer-encoding: chunked\r\n\r\n";
static const char NOTHING[] = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n"
                              "{\"object\":\"list\",\"data\":[]}";

/// `shape` has one place, for the text.
static void make_whole(struct whole *whole, const char *shape) {
  char text[520];
  memset(text, 'a', sizeof text - 1);
  for (size_t i = 5; i < sizeof text - 1; i += 6) text[i] = ' ';
  text[sizeof text - 1] = 0;
  char body[1024];
  int n = snprintf(body, sizeof body, shape, text);
  whole->size = (size_t)snprintf(whole->bytes, sizeof whole->bytes,
                                 "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                                 "x-request-id: req_mock\r\ncontent-length: %d\r\n\r\n%s",
                                 n, body);
}

#define CHAT_WHOLE                                                                                                     \
  "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1700000000,"                                 \
  "\"model\":\"mock-model\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","                          \
  "\"content\":\"%s\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],"                             \
  "\"usage\":{\"prompt_tokens\":311,\"completion_tokens\":120,\"total_tokens\":431}}"

#define MESSAGES_WHOLE                                                                                                 \
  "{\"id\":\"msg_mock\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"mock-model\","                       \
  "\"content\":[{\"type\":\"text\",\"text\":\"%s\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"           \
  "\"usage\":{\"input_tokens\":311,\"output_tokens\":120}}"

/// A mock that does not keep up must fail: what cannot be sent at once ends the connection.
static int say(struct connection *c, const char *bytes, size_t size) {
  return send(c->fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static size_t chunk_of(char *out, const char *event, size_t size) {
  size_t n = (size_t)sprintf(out, "%zx\r\n", size);
  memcpy(out + n, event, size);
  memcpy(out + n + size, "\r\n", 2);
  return n + size + 2;
}

/// The event with the time, and what stands before the first and behind the last.
static size_t chat_event(const struct connection *c, char *out) {
#define EVENT_HEAD "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock-model\","
  static const char stop[] = EVENT_HEAD "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
  static const char usage[] = EVENT_HEAD "\"choices\":[],\"usage\":{\"prompt_tokens\":311,"
                                         "\"completion_tokens\":120,\"total_tokens\":431}}\n\n";
  static const char done[] = "data: [DONE]\n\n";
  char event[512];
  size_t n = (size_t)snprintf(
      event, sizeof event,
      EVENT_HEAD "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"@%019lld word \"},\"finish_reason\":null}]}\n\n",
      (long long)now_ns());
  size_t size = chunk_of(out, event, n);
  if (c->left > 1) return size;
  size += chunk_of(out + size, stop, sizeof stop - 1);
  if (c->wants_usage) size += chunk_of(out + size, usage, sizeof usage - 1);
  return size + chunk_of(out + size, done, sizeof done - 1);
}

static size_t messages_event(const struct connection *c, char *out) {
#define EVENT(type) "event: " type "\ndata: {\"type\":\"" type "\""
  static const char start[] =
      EVENT("message_start") ",\"message\":{\"id\":\"msg_mock\",\"type\":\"message\",\"role\":\"assistant\","
                             "\"model\":\"mock-model\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"
                             "\"usage\":{\"input_tokens\":311,\"output_tokens\":1}}}\n\n"
      EVENT("content_block_start") ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
      EVENT("ping") "}\n\n";
  static const char stop[] = EVENT("content_block_stop") ",\"index\":0}\n\n"
      EVENT("message_delta") ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},"
                             "\"usage\":{\"output_tokens\":120}}\n\n"
      EVENT("message_stop") "}\n\n";
  char event[512];
  size_t n = (size_t)snprintf(event, sizeof event,
                              EVENT("content_block_delta") ",\"index\":0,\"delta\":{\"type\":\"text_delta\","
                                                           "\"text\":\"@%019lld word \"}}\n\n",
                              (long long)now_ns());
  size_t size = c->left == events ? chunk_of(out, start, sizeof start - 1) : 0;
  size += chunk_of(out + size, event, n);
  return c->left > 1 ? size : size + chunk_of(out + size, stop, sizeof stop - 1);
}

static int say_event(struct connection *c) {
  char out[4096];
  size_t size = c->is_messages ? messages_event(c, out) : chat_event(c, out);
  if (c->left == 1) {
    memcpy(out + size, "0\r\n\r\n", 5);
    size += 5;
  }
  c->left -= 1;
  return say(c, out, size);
}

static int is_set(const char *body, size_t size, const char *name) {
  const char *at = memmem(body, size, name, strlen(name));
  if (at == NULL) return 0;
  at += strlen(name);
  while (*at == ' ') at += 1;
  return strncmp(at, "true", 4) == 0;
}

static int answer(struct connection *c, const char *body, size_t size) {
  if (size == 0) return say(c, NOTHING, sizeof NOTHING - 1);
  if (!is_set(body, size, "\"stream\":")) {
    const struct whole *whole = c->is_messages ? &messages : &chat;
    return say(c, whole->bytes, whole->size);
  }
  c->wants_usage = is_set(body, size, "\"include_usage\":");
  c->left = events;
  c->due = now_ns() + first_ns;
  rise(waiting++, c);
  return say(c, STREAM_HEAD, sizeof STREAM_HEAD - 1);
}

// --- requests --------------------------------------------------------------------------------------------------

static void skip(void *who, const char *p, size_t n) {
  (void)who;
  (void)p;
  (void)n;
}

/// Takes one whole request from the front of what came; 0 when there is none, -1 when the connection is to end.
static int take_request(struct connection *c) {
  c->in[c->used] = 0;
  char *end = memmem(c->in, c->used, "\r\n\r\n", 4);
  if (end == NULL) return 0;
  size_t head = (size_t)(end - c->in) + 4, body = 0;
  const char *length = header(c->in, head, "content-length:");
  const char *coding = header(c->in, head, "transfer-encoding:");
  if (length != NULL) {
    body = strtoul(length, NULL, 10);
    if (c->used < head + body) return 0;
  } else if (coding != NULL) {
    struct chunked chunks = {CHUNK_SIZE, 0, 0};
    body = chunked_take(&chunks, c->in + head, c->used - head, skip, NULL);
    if (chunks.state != CHUNK_END) return 0;
  }
  static const char path[] = "POST /v1/messages ";
  c->is_messages = strncmp(c->in, path, sizeof path - 1) == 0;
  if (!answer(c, c->in + head, body)) return -1;
  c->used -= head + body;
  memmove(c->in, c->in + head + body, c->used);
  return 1;
}

static int on_bytes(struct connection *c) {
  for (;;) {
    if (c->used + 1 >= c->room) {
      c->room = c->room == 0 ? 4096 : c->room * 2;
      if (c->room > MOST_BYTES) return 0;
      c->in = realloc(c->in, c->room);
    }
    ssize_t n = recv(c->fd, c->in + c->used, c->room - c->used - 1, 0);
    if (n == 0) return 0;
    if (n < 0) return errno == EAGAIN;
    c->used += (size_t)n;
    int taken;
    while ((taken = take_request(c)) > 0) {
    }
    if (taken < 0) return 0;
    if (c->used + 1 < c->room) return 1;
  }
}

static void end(struct connection *c) {
  remove_from_heap(c);
  close(c->fd);
  free(c->in);
  free(c);
}

static void send_due(int64_t now) {
  while (waiting > 0 && heap[0]->due <= now) {
    struct connection *c = heap[0];
    if (!say_event(c)) {
      end(c);
      continue;
    }
    if (c->left <= 0) {
      remove_from_heap(c);
      continue;
    }
    c->due += gap_ns;
    sink(0, c);
  }
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: mock PORT EVENTS GAP_MS FIRST_MS\n");
    return 2;
  }
  events = atoi(argv[2]);
  gap_ns = atoll(argv[3]) * 1000000;
  first_ns = atoll(argv[4]) * 1000000;
  make_whole(&chat, CHAT_WHOLE);
  make_whole(&messages, MESSAGES_WHOLE);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = local_address(atoi(argv[1]));
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
  if (listen(listener, 4096) < 0) die("listen");
  int ep = epoll_create1(0);
  watch(ep, listener, EPOLLIN, NULL, EPOLL_CTL_ADD);
  printf("ready\n");
  fflush(stdout);
  struct epoll_event ready[256];
  for (;;) {
    struct timespec wait = {1, 0};
    if (waiting > 0) {
      int64_t left = heap[0]->due - now_ns();
      wait.tv_sec = 0;
      wait.tv_nsec = left < 0 ? 0 : left > 999999999 ? 999999999 : left;
    }
    int n = epoll_pwait2(ep, ready, 256, &wait, NULL);
    if (n < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < n; i++) {
      struct connection *c = ready[i].data.ptr;
      if (c != NULL) {
        if (!on_bytes(c)) end(c);
        continue;
      }
      int fd;
      while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        no_delay(fd);
        c = calloc(1, sizeof *c);
        c->fd = fd;
        c->place = -1;
        watch(ep, fd, EPOLLIN, c, EPOLL_CTL_ADD);
      }
    }
    send_due(now_ns());
  }
}
