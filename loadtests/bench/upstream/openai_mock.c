/* An OpenAI server that costs next to nothing: what stands behind the peers. One thread, epoll, HTTP/1.1.
 *
 *   openai_mock PORT
 *
 * POST …/chat/completions answers as the prompt asks (answer.h): whole, or with "stream": true as server-sent events,
 * one write per token; "burst" sends them back to back, "step" one per tick of a clock that all streams share, as
 * in-flight batching does. Every other path gets a page that satisfies the peers' start-up checks.
 */
#define _GNU_SOURCE
#include "answer.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct buffer {
  char *data;
  size_t size, room, sent;
};

struct connection {
  int fd;
  struct buffer in, out;
  bool waits_for_room, closes, answered, streams, dead;
  struct bench_question question;
  unsigned next; /* token */
  struct connection *next_step, *previous_step;
  struct connection *next_dead;
};

static int poller, clock_fd;
static struct connection *stepping, *dead; /* streams on the clock; connections to be freed after this turn */

static void reserve(struct buffer *buffer, size_t more) {
  if (buffer->size + more + 1 <= buffer->room) return;
  buffer->room = (buffer->size + more + 1) * 2;
  buffer->data = realloc(buffer->data, buffer->room);
  if (!buffer->data) abort();
}

static void append(struct buffer *buffer, const char *data, size_t size) {
  reserve(buffer, size);
  memcpy(buffer->data + buffer->size, data, size);
  buffer->size += size;
}

__attribute__((format(printf, 2, 3))) static void appendf(struct buffer *buffer, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  reserve(buffer, 1024);
  buffer->size += vsnprintf(buffer->data + buffer->size, 1024, format, arguments);
  va_end(arguments);
}

/* ---- the clock */

static void run_clock(bool on) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  long ahead = BENCH_STEP_NS - now.tv_nsec % BENCH_STEP_NS;
  struct itimerspec when = {.it_interval.tv_nsec = on ? BENCH_STEP_NS : 0};
  when.it_value = now;
  when.it_value.tv_nsec += ahead;
  if (when.it_value.tv_nsec >= 1000000000L) when.it_value.tv_sec++, when.it_value.tv_nsec -= 1000000000L;
  if (!on) when.it_value = (struct timespec){0};
  timerfd_settime(clock_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void join_clock(struct connection *c) {
  if (!stepping) run_clock(true);
  c->previous_step = NULL;
  c->next_step = stepping;
  if (stepping) stepping->previous_step = c;
  stepping = c;
}

static void leave_clock(struct connection *c) {
  if (c->next_step) c->next_step->previous_step = c->previous_step;
  if (c->previous_step) c->previous_step->next_step = c->next_step;
  else if (stepping == c) stepping = c->next_step;
  c->next_step = c->previous_step = NULL;
  if (!stepping) run_clock(false);
}

/* ---- out */

static void drop(struct connection *c) {
  if (c->dead) return;
  c->dead = true;
  if (c->streams && c->question.mode == BENCH_STEP) leave_clock(c);
  close(c->fd);
  c->next_dead = dead;
  dead = c;
}

static void watch(struct connection *c, bool for_room) {
  if (c->waits_for_room == for_room) return;
  c->waits_for_room = for_room;
  struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (for_room ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

/* True when all is out; false while the peer takes no more, or when it is gone. */
static bool flush(struct connection *c) {
  struct buffer *out = &c->out;
  while (out->sent < out->size) {
    ssize_t sent = send(c->fd, out->data + out->sent, out->size - out->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) {
      watch(c, true);
      return false;
    }
    if (sent < 0) {
      drop(c);
      return false;
    }
    out->sent += (size_t)sent;
  }
  out->size = out->sent = 0;
  return true;
}

#define CHUNK_HEAD "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000," \
                   "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":"

static void event(struct connection *c, const char *delta, const char *finish) {
  char data[512];
  int size = snprintf(data, sizeof data, "data: " CHUNK_HEAD "%s,\"logprobs\":null,\"finish_reason\":%s}]}\n\n", delta,
                      finish);
  appendf(&c->out, "%x\r\n", (unsigned)size);
  append(&c->out, data, (size_t)size);
  append(&c->out, "\r\n", 2);
}

static void next_token(struct connection *c) {
  char token[BENCH_TOKEN_BYTES], delta[64];
  if (c->next == 0) event(c, "{\"role\":\"assistant\",\"content\":\"\"}", "null");
  bench_token(token, &c->question, c->next++, true);
  snprintf(delta, sizeof delta, "{\"content\":\"%s\"}", token);
  event(c, delta, "null");
  if (c->next < c->question.tokens) return;
  event(c, "{}", "\"stop\"");
  append(&c->out, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", 24);
  if (c->question.mode == BENCH_STEP) leave_clock(c);
  c->streams = false;
}

static void whole(struct connection *c) {
  struct buffer body = {0};
  append(&body, "", 0);
  appendf(&body, "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\","
                 "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"");
  for (unsigned i = 0; i < c->question.tokens; i++) {
    char token[BENCH_TOKEN_BYTES];
    append(&body, token, (size_t)bench_token(token, &c->question, i, true));
  }
  appendf(&body, "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":75,"
                 "\"completion_tokens\":%u,\"total_tokens\":%u}}", c->question.tokens, c->question.tokens + 75);
  appendf(&c->out, "HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n",
          body.size);
  append(&c->out, body.data, body.size);
  free(body.data);
}

static void page(struct connection *c, const char *status, const char *body) {
  appendf(&c->out, "HTTP/1.1 %s\r\nserver: bench\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
          status, strlen(body), body);
}

/* ---- in */

static bool is_true(const char *body, size_t size, const char *key) {
  const char *at = memmem(body, size, key, strlen(key));
  if (!at) return false;
  at += strlen(key);
  while (*at == ' ' || *at == ':') at++;
  return *at == 't';
}

static void answer(struct connection *c, const char *line, size_t line_size, const char *body, size_t size) {
  c->answered = true;
  if (!memmem(line, line_size, "completions", 11)) {
    if (memmem(line, line_size, "/models", 7))
      page(c, "200 OK", "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1700000000,"
                        "\"owned_by\":\"bench\",\"root\":\"bench\",\"max_model_len\":4096}]}");
    else
      page(c, "200 OK", "{\"status\":\"ok\",\"model_path\":\"bench\",\"served_model_name\":\"bench\",\"tokenizer_path\":"
                        "\"bench\",\"is_generation\":true,\"version\":\"0.5.0\",\"dp_size\":1,\"tp_size\":1}");
    return;
  }
  if (!bench_question_in(body, size, &c->question)) {
    page(c, "400 Bad Request", "{\"error\":{\"message\":\"the prompt holds no [bench MODE TOKENS SERIAL]\","
                               "\"type\":\"invalid_request_error\",\"param\":\"messages\",\"code\":null}}");
    return;
  }
  if (!is_true(body, size, "\"stream\"")) {
    whole(c);
    return;
  }
  appendf(&c->out, "HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                   "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n");
  c->next = 0;
  c->streams = true;
  if (c->question.mode == BENCH_STEP) join_clock(c);
}

/* Body of a chunked request, moved together in place; its size, or -1 while it isn't all there. `*total`: bytes of it. */
static ssize_t unchunk(char *body, char *end, size_t *total) {
  size_t size = 0;
  for (int moves = 0; moves < 2; moves++) { /* look first, then move */
    char *at = body;
    size = 0;
    for (;;) {
      char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
      if (!line_end) return -1;
      size_t length = strtoul(at, NULL, 16);
      char *data = line_end + 2;
      if (data + length + 2 > end) return -1;
      at = data + length + 2;
      if (moves) memmove(body + size, data, length);
      size += length;
      if (length == 0) break;
    }
    *total = (size_t)(at - body);
  }
  return (ssize_t)size;
}

/* Answers one request of the buffer; false while there is none. */
static bool take_request(struct connection *c) {
  struct buffer *in = &c->in;
  char *head_end = in->size ? memmem(in->data, in->size, "\r\n\r\n", 4) : NULL;
  if (!head_end) return false;
  char *line_end = memmem(in->data, in->size, "\r\n", 2), *body = head_end + 4, *end = in->data + in->size;
  size_t length = 0, total = 0;
  bool chunked = false;
  for (char *header = line_end + 2; header < head_end;) {
    if (!strncasecmp(header, "content-length:", 15)) length = strtoul(header + 15, NULL, 10);
    else if (!strncasecmp(header, "transfer-encoding:", 18)) chunked = true;
    else if (!strncasecmp(header, "connection: close", 17)) c->closes = true;
    header = (char *)memmem(header, (size_t)(head_end + 2 - header), "\r\n", 2) + 2;
  }
  if (chunked) {
    ssize_t size = unchunk(body, end, &total);
    if (size < 0) return false;
    length = (size_t)size;
  } else {
    if ((size_t)(end - body) < length) return false;
    total = length;
  }
  char *rest = body + total, kept = *rest;
  *rest = 0; /* what reads numbers stops here */
  answer(c, in->data, (size_t)(line_end - in->data), body, length);
  *rest = kept;
  in->size = (size_t)(end - rest);
  memmove(in->data, rest, in->size);
  return true;
}

/* As far as it goes: what is to be sent, what streams back to back, then the next request. */
static void pump(struct connection *c) {
  for (;;) {
    if (!flush(c)) return;
    watch(c, false);
    if (c->streams) {
      if (c->question.mode == BENCH_STEP) return;
      next_token(c);
    } else if (c->closes && c->answered) {
      drop(c);
      return;
    } else if (!take_request(c)) {
      return;
    }
  }
}

static void receive(struct connection *c) {
  for (;;) {
    reserve(&c->in, 16384);
    ssize_t got = recv(c->fd, c->in.data + c->in.size, 16384, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
      drop(c);
      return;
    }
    if (got < 0) break;
    c->in.size += (size_t)got;
    if (got < 16384) break;
  }
  if (!c->streams) pump(c);
}

static void tick(void) {
  uint64_t ticks;
  if (read(clock_fd, &ticks, sizeof ticks) < 0) return;
  for (struct connection *c = stepping, *next; c; c = next) {
    next = c->next_step;
    next_token(c);
    if (c->streams) flush(c);
    else pump(c);
  }
}

static void accept_all(int listener) {
  int fd, one = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->fd = fd;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
  }
}

int main(int count, char **arguments) {
  if (count != 2) {
    fprintf(stderr, "usage: openai_mock PORT\n");
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGTERM); /* never outlives the bench */
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
    perror("openai_mock");
    return 1;
  }
  poller = epoll_create1(EPOLL_CLOEXEC);
  clock_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  event.data.ptr = &clock_fd;
  epoll_ctl(poller, EPOLL_CTL_ADD, clock_fd, &event);
  for (;;) {
    struct epoll_event events[256];
    int ready = epoll_wait(poller, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      void *source = events[i].data.ptr;
      struct connection *c = source;
      if (source == &listener) accept_all(listener);
      else if (source == &clock_fd) tick();
      else if (c->dead) continue;
      else if (events[i].events & (EPOLLERR | EPOLLHUP)) drop(c);
      else {
        if (events[i].events & EPOLLOUT) pump(c);
        if (!c->dead && events[i].events & (EPOLLIN | EPOLLRDHUP)) receive(c);
      }
    }
    while (dead) {
      struct connection *c = dead;
      dead = c->next_dead;
      free(c->in.data);
      free(c->out.data);
      free(c);
    }
  }
}
