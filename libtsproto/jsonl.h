#ifndef TSP_JSONL_H
#define TSP_JSONL_H
/*
 * JSON lines, as our own /api/v1/export writes them and VictoriaMetrics does: an object is a series.
 *
 *   {"metric":{"__name__":"up","job":"a"},"values":[1,null,"-Infinity"],"timestamps":[1000,2000,3000]}
 *
 * Times are integers in milliseconds. A value is a number, null (NaN), or a text: a number, NaN,
 * Infinity, Inf, the last two with a sign or without, StaleNaN (a series' end). Members come in any order; others are passed over.
 * One object follows the other, with line ends or other blanks between them. next() gives the object's
 * labels and checks its form; walk() reads the numbers where they lie: nothing is kept per sample.
 *
 * Escapes of JSON are taken away in labels (half of a surrogate pair becomes U+FFFD). That UTF-8 is in
 * order and no name is given twice is the caller's to find. An object that breaks is told, and reading
 * goes on at the next line. The labels of one object are at most TSP_JSONL_LABELS_MAX bytes as sent,
 * and what is passed over is nested at most TSP_JSONL_DEPTH_MAX deep.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/labels.h"

enum { TSP_JSONL_LABELS_MAX = 512 * 1024, TSP_JSONL_DEPTH_MAX = 32 };
enum tsp_jsonl_item { TSP_JSONL_END, TSP_JSONL_SERIES, TSP_JSONL_BAD_LINE };
struct tsp_jsonl_series {
    struct kl_labels_builder *labels;                  /* until the next call of next() */
    struct kl_span labels_raw;                         /* the braces of "metric", as sent */
    size_t count;                                      /* of values, and of timestamps */
    const char *value, *time;                          /* walk()'s */
};

struct tsp_jsonl;                                      /* one thread */
struct tsp_jsonl *tsp_jsonl_new(void);
void tsp_jsonl_free(struct tsp_jsonl *t);
void tsp_jsonl_open(struct tsp_jsonl *t, struct kl_span body);
/* BAD_LINE: err names the line and column. */
enum tsp_jsonl_item tsp_jsonl_next(struct tsp_jsonl *t, struct tsp_jsonl_series *s, struct kl_err *err);
/* The next samples of the series, `cap` at most; 0 at its end. One whose value or time is none is left
 * out and counted in *bad. */
size_t tsp_jsonl_walk(struct tsp_jsonl_series *s, int64_t *times_ms, double *values, size_t cap,
                      uint64_t *bad);
#endif
