// The load of the bench. Usage:
//   load PORT HEAD_FILE BODY_FILE MODE CONNECTIONS WARM_MS MEASURE_MS [RATE_PER_S | EVENTS]
// MODE is `closed` (each connection asks again when it was answered), `open` (so many a second, whoever is free; latency
// counts from the time a request was due, so that a server that stalls cannot slow its load down) or `stream` (each
// connection has one stream under way; the delay of an event counts from the time in it).
// HEAD_FILE has the request line and headers without content-length. Prints "begin" when what is measured begins, and
// at its end one line of JSON.

#include "wire.h"
#include <fcntl.h>
#include <sys/stat.h>

enum { MOST = 8192, BUFFER = 256 * 1024 };
enum mode { CLOSED, OPEN, STREAM };

// --- histogram: 1 us steps to 1 ms, then three digits -----------------------------------------------------------

enum { STEPS = 1000 + 900 * 5 };
struct histogram {
  uint64_t count[STEPS], total;
  int64_t most_ns;
};

static void note(struct histogram *h, int64_t ns) {
  if (ns < 0) ns = 0;
  int64_t us = ns / 1000, base = 1000, at;
  if (us < 1000) at = us;
  else {
    int decade = 0;
    while (us >= base * 10 && decade < 4) {
      base *= 10;
      decade += 1;
    }
    at = 1000 + decade * 900 + (us - base) / (base / 100);
    if (us >= base * 10) at = STEPS - 1;
  }
  h->count[at] += 1;
  h->total += 1;
  if (ns > h->most_ns) h->most_ns = ns;
}

static double value_us(int at) {
  if (at < 1000) return at + 0.5;
  int64_t base = 1000;
  for (int decade = (at - 1000) / 900; decade > 0; decade--) base *= 10;
  return (double)base + ((at - 1000) % 900 + 0.5) * (double)(base / 100);
}

static double percentile_us(const struct histogram *h, double share) {
  uint64_t wanted = (uint64_t)(share * (double)h->total), seen = 0;
  for (int at = 0; at < STEPS; at++) {
    seen += h->count[at];
    if (seen > wanted) return value_us(at);
  }
  return (double)h->most_ns / 1000;
}

static void print_histogram(const char *name, const struct histogram *h) {
  printf("\"%s\":{\"count\":%llu,\"p50Us\":%.1f,\"p90Us\":%.1f,\"p99Us\":%.1f,\"p999Us\":%.1f,\"mostUs\":%.1f}", name,
         (unsigned long long)h->total, percentile_us(h, 0.5), percentile_us(h, 0.9), percentile_us(h, 0.99),
         percentile_us(h, 0.999), (double)h->most_ns / 1000);
}

// --- connections -----------------------------------------------------------------------------------------------

struct connection {
  int fd;
  int busy;
  size_t sent;
  /// When the present request was sent, or was due.
  int64_t since;
  char head[8192];
  size_t head_used;
  int in_body;
  int is_chunked;
  int failed;
  size_t left;
  struct chunked chunks;
  /// Digits of the time in an event that have been read; -1 outside of one.
  int digits;
  int64_t stamp;
  int seen;
};

static enum mode mode;
static int port, ep, count, events_wanted;
static char *request;
static size_t request_size;
static struct connection *all;
static int idle[MOST], idles = 0;
static int measuring = 0;
static struct histogram latency, delay, first;
static uint64_t answered = 0, errors = 0, broken = 0;
static int open_now = 0;

// Requests that are due and wait for a free connection (open loop).
static int64_t *queue;
static size_t queue_at = 0, queue_end = 0;
enum { QUEUE = 1 << 20 };

static void open_connection(struct connection *c) {
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (c->fd < 0) die("socket");
  struct sockaddr_in address = local_address(port);
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  no_delay(c->fd);
  c->head_used = 0;
  c->busy = 0;
  watch(ep, c->fd, EPOLLIN, c, EPOLL_CTL_ADD);
}

static void push_bytes(struct connection *c) {
  while (c->sent < request_size) {
    ssize_t n = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL);
    if (n < 0) {
      // A broken connection is told by the next read.
      if (errno == EAGAIN) watch(ep, c->fd, EPOLLIN | EPOLLOUT, c, EPOLL_CTL_MOD);
      return;
    }
    c->sent += (size_t)n;
    if (c->sent == request_size && (size_t)n < request_size) watch(ep, c->fd, EPOLLIN, c, EPOLL_CTL_MOD);
  }
}

static void ask(struct connection *c, int64_t since) {
  c->busy = 1;
  c->sent = 0;
  c->since = since;
  c->head_used = 0;
  c->in_body = 0;
  c->failed = 0;
  c->seen = 0;
  c->digits = -1;
  open_now += 1;
  push_bytes(c);
}

static void on_stamp(struct connection *c) {
  int64_t now = now_ns();
  c->seen += 1;
  if (!measuring) return;
  note(&delay, now - c->stamp);
  if (c->seen == 1) note(&first, now - c->since);
}

static void on_content(void *who, const char *p, size_t n) {
  struct connection *c = who;
  if (mode != STREAM) return;
  const char *end = p + n;
  while (p < end) {
    if (c->digits < 0) {
      p = memchr(p, '@', (size_t)(end - p));
      if (p == NULL) return;
      p += 1;
      c->digits = 0;
      c->stamp = 0;
      continue;
    }
    c->stamp = c->stamp * 10 + (*p - '0');
    c->digits += 1;
    p += 1;
    if (c->digits == 19) {
      c->digits = -1;
      on_stamp(c);
    }
  }
}

static void next(struct connection *c) {
  if (mode != OPEN) {
    ask(c, now_ns());
    return;
  }
  if (queue_at < queue_end) ask(c, queue[queue_at++ % QUEUE]);
  else idle[idles++] = (int)(c - all);
}

static void finish(struct connection *c) {
  c->busy = 0;
  open_now -= 1;
  if (measuring) {
    if (c->failed) errors += 1;
    else if (mode == STREAM && c->seen != events_wanted) broken += 1;
    else {
      answered += 1;
      note(&latency, now_ns() - c->since);
    }
  }
  next(c);
}

static void again(struct connection *c) {
  if (c->busy) {
    open_now -= 1;
    if (measuring) errors += 1;
  }
  close(c->fd);
  open_connection(c);
  next(c);
}

/// Takes bytes of an answer.
static void on_bytes(struct connection *c, const char *p, size_t n) {
  while (n > 0) {
    if (!c->busy) return;
    if (!c->in_body) {
      size_t room = sizeof c->head - 1 - c->head_used, before = c->head_used;
      size_t take = n < room ? n : room;
      memcpy(c->head + before, p, take);
      c->head_used += take;
      c->head[c->head_used] = 0;
      char *end = memmem(c->head, c->head_used, "\r\n\r\n", 4);
      if (end == NULL) {
        if (take == 0) die("a head of an answer that is too long");
        p += take;
        n -= take;
        continue;
      }
      size_t head = (size_t)(end - c->head) + 4;
      p += head - before;
      n -= head - before;
      c->head_used = head;
      c->failed = strncmp(c->head + 8, " 200", 4) != 0;
      const char *length = header(c->head, head, "content-length:");
      c->is_chunked = length == NULL;
      c->left = length == NULL ? 0 : strtoul(length, NULL, 10);
      c->chunks = (struct chunked){CHUNK_SIZE, 0, 0};
      c->in_body = 1;
      if (!c->is_chunked && c->left == 0) finish(c);
      continue;
    }
    if (c->is_chunked) {
      size_t taken = chunked_take(&c->chunks, p, n, on_content, c);
      p += taken;
      n -= taken;
      if (c->chunks.state == CHUNK_END) finish(c);
      continue;
    }
    size_t take = n < c->left ? n : c->left;
    on_content(c, p, take);
    p += take;
    n -= take;
    c->left -= take;
    if (c->left == 0) finish(c);
  }
}

static void on_ready(struct connection *c, uint32_t events) {
  static char buffer[BUFFER];
  if (events & EPOLLOUT) push_bytes(c);
  if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
  ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) again(c);
  else on_bytes(c, buffer, (size_t)n);
}

// --- the run ---------------------------------------------------------------------------------------------------

static char *read_file(const char *path, size_t *size) {
  FILE *f = fopen(path, "rb");
  if (f == NULL) die(path);
  struct stat s;
  if (fstat(fileno(f), &s) < 0) die(path);
  *size = (size_t)s.st_size;
  char *bytes = malloc(*size + 1);
  if (fread(bytes, 1, *size, f) != *size) die(path);
  bytes[*size] = 0;
  fclose(f);
  return bytes;
}

static void make_request(const char *head_path, const char *body_path) {
  size_t head_size, body_size;
  char *head = read_file(head_path, &head_size);
  char *body = read_file(body_path, &body_size);
  request = malloc(head_size + body_size + 64);
  int n = sprintf(request, "%scontent-length: %zu\r\n\r\n", head, body_size);
  memcpy(request + n, body, body_size);
  request_size = (size_t)n + body_size;
  free(head);
  free(body);
}

int main(int argc, char **argv) {
  if (argc < 8) {
    fprintf(stderr, "usage: load PORT HEAD BODY closed|open|stream CONNECTIONS WARM_MS MEASURE_MS [RATE | EVENTS]\n");
    return 2;
  }
  port = atoi(argv[1]);
  make_request(argv[2], argv[3]);
  mode = strcmp(argv[4], "open") == 0 ? OPEN : strcmp(argv[4], "stream") == 0 ? STREAM : CLOSED;
  count = atoi(argv[5]);
  if (count < 1 || count > MOST) return 2;
  int64_t warm = atoll(argv[6]) * 1000000, measure = atoll(argv[7]) * 1000000;
  double rate = argc > 8 ? atof(argv[8]) : 0;
  events_wanted = argc > 8 ? atoi(argv[8]) : 0;
  if (mode == OPEN && rate <= 0) return 2;
  ep = epoll_create1(0);
  all = calloc((size_t)count, sizeof *all);
  queue = malloc(sizeof *queue * QUEUE);
  int64_t began = now_ns(), from = began + warm, until = from + measure;
  // Streams begin over one gap of events and a half second, so that their events are spread evenly.
  int64_t ramp = mode == STREAM ? 513000000 : 0;
  int opened = 0;
  uint64_t due_count = 0;
  struct epoll_event ready[512];
  for (;;) {
    int64_t now = now_ns();
    while (opened < count && now >= began + ramp * opened / count) {
      struct connection *c = &all[opened++];
      open_connection(c);
      next(c);
    }
    if (!measuring && now >= from) {
      measuring = 1;
      printf("begin\n");
      fflush(stdout);
    }
    if (now >= until) break;
    int64_t wake = measuring ? until : from;
    if (opened < count && began + ramp * opened / count < wake) wake = began + ramp * opened / count;
    if (mode == OPEN) {
      int64_t due;
      while ((due = began + (int64_t)((double)due_count * 1e9 / rate)) <= now) {
        due_count += 1;
        if (idles > 0) ask(&all[idle[--idles]], due);
        else if (queue_end - queue_at < QUEUE) queue[queue_end++ % QUEUE] = due;
        else die("more requests are due than can wait");
      }
      if (due < wake) wake = due;
    }
    int64_t left = wake - now_ns();
    struct timespec wait = {left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0};
    int n = epoll_pwait2(ep, ready, 512, &wait, NULL);
    if (n < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < n; i++) on_ready(ready[i].data.ptr, ready[i].events);
  }
  printf("{\"answered\":%llu,\"errors\":%llu,\"broken\":%llu,\"open\":%d,\"late\":%zu,\"seconds\":%.6f,",
         (unsigned long long)answered, (unsigned long long)errors, (unsigned long long)broken, open_now,
         queue_end - queue_at, (double)(now_ns() - from) / 1e9);
  print_histogram("latency", &latency);
  printf(",");
  print_histogram("delay", &delay);
  printf(",");
  print_histogram("firstEvent", &first);
  printf("}\n");
  return 0;
}
