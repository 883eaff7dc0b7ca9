#ifndef TSP_JSONL_H
#define TSP_JSONL_H
/*
 * JSON lines, as our own /api/v1/export writes them and VictoriaMetrics does: an object is a series.
 *
 *   {"metric":{"__name__":"up","job":"a"},"values":[1,null,"-Infinity"],"timestamps":[1000,2000,3000]}
 *
 * Times are integers in milliseconds. A value is a number, null (NaN), or a text: a number, NaN,
 * Infinity, Inf, the last two with a sign or without, StaleNaN (a series' end), NaN(0x7ff8000000000000) (a NaN of
 * these bits). "starts" may tell when each sample's counter began, 0: not told. Members come in any order; others are passed over.
 * One object follows the other, with line ends or other blanks between them. next() gives the object's
 * labels and checks its form; walk() reads the numbers where they lie: nothing is kept per sample.
 *
 *   {"metric":{"__name__":"latency"},"histograms":[{"timestamp":"1000","countInt":"3","sum":4.5,"schema":3,
 *    "zeroThreshold":1e-9,"zeroCountInt":"1","positiveSpans":[{"offset":2,"length":1}],"positiveDeltas":["2"]}]}
 *
 * A native histogram is the message prometheus.Histogram of remote write (prompb/types.proto) as protobuf's JSON:
 * names in camel case or as in the .proto, 64-bit integers as texts or numbers, a resetHint by name or number, what is
 * 0 left out. "countFloat", "zeroCountFloat" and "negativeCounts", "positiveCounts" are of those that came as floats;
 * "customValues" are bounds. What was written comes back bit for bit; the same is refused as of remote write. A series
 * has "histograms", or "values" with "timestamps", or both.
 *
 * Escapes of JSON are taken away in labels (half of a surrogate pair becomes U+FFFD). That UTF-8 is in
 * order and no name is given twice is the caller's to find. An object that breaks is told, and reading
 * goes on at the next line. The labels of one object are at most TSP_JSONL_LABELS_MAX bytes as sent,
 * and what is passed over is nested at most TSP_JSONL_DEPTH_MAX deep.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/hist.h"
#include "libkoal/base/labels.h"

enum { TSP_JSONL_LABELS_MAX = 512 * 1024, TSP_JSONL_DEPTH_MAX = 32 };
enum tsp_jsonl_item { TSP_JSONL_END, TSP_JSONL_SERIES, TSP_JSONL_BAD_LINE };
struct tsp_jsonl_series {
    struct kl_labels_builder *labels;                  /* until the next call of next() */
    struct kl_span labels_raw;                         /* the braces of "metric", as sent */
    size_t count;                                      /* of values, and of timestamps */
    size_t hist_count;
    const char *value, *time, *start, *hist, *end;     /* the walks' */
};

struct tsp_jsonl;                                      /* one thread */
struct tsp_jsonl *tsp_jsonl_new(void);
void tsp_jsonl_free(struct tsp_jsonl *t);
void tsp_jsonl_open(struct tsp_jsonl *t, struct kl_span body);
/* BAD_LINE: err names the line and column. */
enum tsp_jsonl_item tsp_jsonl_next(struct tsp_jsonl *t, struct tsp_jsonl_series *s, struct kl_err *err);
/* The next samples of the series, `cap` at most; 0 at its end. One whose value or time is none is left
 * out and counted in *bad. `starts_ms` may be NULL; 0: not told. */
size_t tsp_jsonl_walk(struct tsp_jsonl_series *s, int64_t *times_ms, double *values, int64_t *starts_ms,
                      size_t cap, uint64_t *bad);
/* The next histogram, its arrays in `arena`. `false`: at the end err->code is KL_OK, else it is why this
 * one is unfit (KL_ELIMIT: past the bounds of a histogram or the arena's), and the walk may go on behind it. */
bool tsp_jsonl_walk_hist(struct tsp_jsonl_series *s, struct kl_arena *arena, int64_t *time_ms,
                         int64_t *start_ms, struct kl_hist *h, struct kl_err *err);

/* ---- writing. `exact`: stale markers and other NaNs as they are; else they are all NaN ---- */
void tsp_jsonl_put_value(struct kl_buf *out, double v, bool exact);
void tsp_jsonl_put_hist(struct kl_buf *out, const struct kl_hist *h, int64_t time_ms, int64_t start_ms, bool exact);
#endif
