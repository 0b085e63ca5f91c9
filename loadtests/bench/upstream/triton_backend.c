/* A Triton backend that costs next to nothing: what stands behind Penstock. libtriton_bench.so, decoupled.
 *
 * It answers as the prompt asks (answer.h), in the tensors of NVIDIA's stock `ensemble`: one response per token with
 * its counts when `stream` is true, else one response with everything. "burst" sends them back to back, "step" one per
 * tick of a clock that all requests share, as in-flight batching does.
 *
 * The wheel that Triton comes in has no headers: what is used of its C API is declared here, as in
 * triton-inference-server/core, include/triton/core/tritonbackend.h.
 */
#define _GNU_SOURCE
#include "answer.h"
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

typedef struct TRITONSERVER_Error TRITONSERVER_Error;
typedef struct TRITONBACKEND_Input TRITONBACKEND_Input;
typedef struct TRITONBACKEND_ModelInstance TRITONBACKEND_ModelInstance;
typedef struct TRITONBACKEND_Output TRITONBACKEND_Output;
typedef struct TRITONBACKEND_Request TRITONBACKEND_Request;
typedef struct TRITONBACKEND_Response TRITONBACKEND_Response;
typedef struct TRITONBACKEND_ResponseFactory TRITONBACKEND_ResponseFactory;
enum { MEMORY_CPU = 0, TYPE_INT32 = 8, TYPE_BYTES = 13, RELEASE_ALL = 1, COMPLETE_FINAL = 1 };

TRITONSERVER_Error *TRITONBACKEND_RequestInput(TRITONBACKEND_Request *, const char *, TRITONBACKEND_Input **);
TRITONSERVER_Error *TRITONBACKEND_InputBuffer(TRITONBACKEND_Input *, uint32_t, const void **, uint64_t *, int *,
                                              int64_t *);
TRITONSERVER_Error *TRITONBACKEND_RequestRelease(TRITONBACKEND_Request *, uint32_t);
TRITONSERVER_Error *TRITONBACKEND_ResponseFactoryNew(TRITONBACKEND_ResponseFactory **, TRITONBACKEND_Request *);
TRITONSERVER_Error *TRITONBACKEND_ResponseFactoryDelete(TRITONBACKEND_ResponseFactory *);
TRITONSERVER_Error *TRITONBACKEND_ResponseFactoryIsCancelled(TRITONBACKEND_ResponseFactory *, bool *);
TRITONSERVER_Error *TRITONBACKEND_ResponseFactorySendFlags(TRITONBACKEND_ResponseFactory *, uint32_t);
TRITONSERVER_Error *TRITONBACKEND_ResponseNewFromFactory(TRITONBACKEND_Response **, TRITONBACKEND_ResponseFactory *);
TRITONSERVER_Error *TRITONBACKEND_ResponseOutput(TRITONBACKEND_Response *, TRITONBACKEND_Output **, const char *, int,
                                                 const int64_t *, uint32_t);
TRITONSERVER_Error *TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output *, void **, uint64_t, int *, int64_t *);
TRITONSERVER_Error *TRITONBACKEND_ResponseSend(TRITONBACKEND_Response *, uint32_t, TRITONSERVER_Error *);
void TRITONSERVER_ErrorDelete(TRITONSERVER_Error *);
const char *TRITONSERVER_ErrorMessage(TRITONSERVER_Error *);

struct job {
  TRITONBACKEND_ResponseFactory *factory;
  struct bench_question question;
  unsigned next;
  int32_t prompt_tokens;
};

struct jobs {
  struct job *all;
  size_t count, room;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct jobs arriving; /* under the lock; taken over at the next tick */

/* An error here is a bug of the bench or a client that has gone: said in Triton's log, and the load client counts what
 * is missing. */
static bool ok(TRITONSERVER_Error *error) {
  if (!error) return true;
  fprintf(stderr, "bench backend: %s\n", TRITONSERVER_ErrorMessage(error));
  TRITONSERVER_ErrorDelete(error);
  return false;
}

static void add(struct jobs *jobs, struct job job) {
  if (jobs->count == jobs->room) {
    jobs->room = jobs->room * 2 + 64;
    jobs->all = realloc(jobs->all, jobs->room * sizeof *jobs->all);
    if (!jobs->all) abort();
  }
  jobs->all[jobs->count++] = job;
}

static void *tensor(TRITONBACKEND_Response *response, const char *name, int type, uint64_t size) {
  TRITONBACKEND_Output *output;
  const int64_t shape[] = {1, 1};
  void *data = NULL;
  int memory = MEMORY_CPU;
  int64_t device = 0;
  bool made = ok(TRITONBACKEND_ResponseOutput(response, &output, name, type, shape, 2)) &&
              ok(TRITONBACKEND_OutputBuffer(output, &data, size, &memory, &device));
  return made ? data : NULL;
}

static void respond(struct job *job, const char *text, uint32_t size, int32_t tokens, bool last) {
  TRITONBACKEND_Response *response;
  if (!ok(TRITONBACKEND_ResponseNewFromFactory(&response, job->factory))) return;
  char *out = tensor(response, "text_output", TYPE_BYTES, size + 4);
  int32_t *prompt_tokens = tensor(response, "num_input_tokens", TYPE_INT32, 4);
  int32_t *output_tokens = tensor(response, "num_output_tokens", TYPE_INT32, 4);
  if (out) memcpy(out, &size, 4), memcpy(out + 4, text, size);
  if (prompt_tokens) *prompt_tokens = job->prompt_tokens;
  if (output_tokens) *output_tokens = tokens;
  ok(TRITONBACKEND_ResponseSend(response, last ? COMPLETE_FINAL : 0, NULL));
}

/* True while more are to come. */
static bool next_token(struct job *job) {
  char token[BENCH_TOKEN_BYTES];
  int size = bench_token(token, &job->question, job->next++, false);
  bool last = job->next == job->question.tokens;
  respond(job, token, (uint32_t)size, 1, last);
  return !last;
}

static void whole(struct job *job) {
  char *text = malloc((size_t)job->question.tokens * BENCH_TOKEN_BYTES + 1);
  if (!text) abort();
  uint32_t size = 0;
  for (unsigned i = 0; i < job->question.tokens; i++) size += (uint32_t)bench_token(text + size, &job->question, i, false);
  respond(job, text, size, (int32_t)job->question.tokens, true);
  free(text);
}

static void *run_clock(void *unused) {
  struct jobs running = {0};
  for (;;) {
    pthread_mutex_lock(&lock);
    while (!running.count && !arriving.count) pthread_cond_wait(&arrived, &lock);
    pthread_mutex_unlock(&lock);
    struct timespec tick;
    clock_gettime(CLOCK_MONOTONIC, &tick);
    tick.tv_nsec += BENCH_STEP_NS - tick.tv_nsec % BENCH_STEP_NS;
    if (tick.tv_nsec >= 1000000000L) tick.tv_sec++, tick.tv_nsec -= 1000000000L;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &tick, NULL);
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < arriving.count; i++) add(&running, arriving.all[i]);
    arriving.count = 0;
    pthread_mutex_unlock(&lock);
    size_t kept = 0;
    for (size_t i = 0; i < running.count; i++) {
      struct job *job = &running.all[i];
      bool cancelled = false;
      ok(TRITONBACKEND_ResponseFactoryIsCancelled(job->factory, &cancelled));
      if (cancelled) ok(TRITONBACKEND_ResponseFactorySendFlags(job->factory, COMPLETE_FINAL));
      if (!cancelled && next_token(job)) running.all[kept++] = *job;
      else ok(TRITONBACKEND_ResponseFactoryDelete(job->factory));
    }
    running.count = kept;
  }
  return unused;
}

static void start_clock(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, run_clock, NULL)) abort();
}

/* The first element of an input; NULL where the request has none. */
static const void *input(TRITONBACKEND_Request *request, const char *name, uint64_t *size) {
  TRITONBACKEND_Input *found;
  const void *data = NULL;
  int memory = MEMORY_CPU;
  int64_t device = 0;
  TRITONSERVER_Error *missing = TRITONBACKEND_RequestInput(request, name, &found);
  if (missing) {
    TRITONSERVER_ErrorDelete(missing);
    return NULL;
  }
  return ok(TRITONBACKEND_InputBuffer(found, 0, &data, size, &memory, &device)) ? data : NULL;
}

static void execute(TRITONBACKEND_Request *request) {
  struct job job = {0};
  uint64_t size = 0;
  const char *text = input(request, "text_input", &size);
  char *prompt = text && size > 4 ? strndup(text + 4, size - 4) : NULL;
  bool known = prompt && bench_question_in(prompt, strlen(prompt), &job.question);
  job.prompt_tokens = (int32_t)(size / 4);
  free(prompt);
  const bool *stream = input(request, "stream", &size);
  bool streams = stream && *stream;
  ok(TRITONBACKEND_ResponseFactoryNew(&job.factory, request));
  ok(TRITONBACKEND_RequestRelease(request, RELEASE_ALL));
  if (known && streams && job.question.mode == BENCH_STEP) {
    pthread_once(&once, start_clock);
    pthread_mutex_lock(&lock);
    add(&arriving, job);
    pthread_cond_signal(&arrived);
    pthread_mutex_unlock(&lock);
    return;
  }
  if (!known) respond(&job, "", 0, 0, true); /* no text: the load client counts it as wrong */
  else if (!streams) whole(&job);
  else
    while (next_token(&job)) continue;
  ok(TRITONBACKEND_ResponseFactoryDelete(job.factory));
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance *instance,
                                                       TRITONBACKEND_Request **requests, const uint32_t count) {
  (void)instance;
  for (uint32_t i = 0; i < count; i++) execute(requests[i]);
  return NULL;
}
