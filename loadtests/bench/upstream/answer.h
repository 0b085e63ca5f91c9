/* What both upstreams answer: a pure function of the prompt, so that the load client knows every byte beforehand.
 *
 * A prompt holds "[bench MODE TOKENS SERIAL]". Two prompts with different serials have different answers: a piece of
 * somebody else's answer shows. Some tokens begin with what JSON must escape, or with a character of two bytes.
 * question.py is the same in Python, and a test compares them by way of a running mock.
 */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_STEP_NS 5000000L /* the clock that all streams of mode "step" share */
#define BENCH_TOKEN_BYTES 16   /* no token is longer, escaped for JSON or not */
#define BENCH_MOST_TOKENS 1000000

enum bench_mode { BENCH_BURST, BENCH_STEP };

struct bench_question {
  enum bench_mode mode;
  unsigned tokens;
  uint32_t serial;
};

/* False where the prompt asks nothing that is known. `text` must end in a zero byte somewhere. */
static int bench_question_in(const char *text, size_t size, struct bench_question *question) {
  static const char mark[] = "[bench ";
  const char *at = memmem(text, size, mark, sizeof mark - 1);
  if (!at) return 0;
  at += sizeof mark - 1;
  question->mode = strncmp(at, "step ", 5) ? BENCH_BURST : BENCH_STEP;
  at = strchr(at, ' ');
  if (!at) return 0;
  char *end;
  unsigned long tokens = strtoul(at, &end, 10);
  question->tokens = tokens < 1 ? 1 : tokens > BENCH_MOST_TOKENS ? BENCH_MOST_TOKENS : (unsigned)tokens;
  question->serial = (uint32_t)strtoul(end, &end, 10);
  return *end == ']';
}

/* Writes token `index` and a zero byte; gives its length. */
static int bench_token(char *out, const struct bench_question *question, unsigned index, int json) {
  const char *before = " ";
  if (index == 0) before = "";
  else if (index % 16 == 15) before = json ? "\\n" : "\n";
  else if (index % 16 == 7) before = json ? "\\\"" : "\"";
  else if (index % 16 == 11) before = "\xc3\xa9";
  unsigned word = (uint32_t)(question->serial * 2654435761u + index * 40503u) >> 12 & 0xffff;
  return snprintf(out, BENCH_TOKEN_BYTES, "%sw%04x", before, word);
}

#endif
