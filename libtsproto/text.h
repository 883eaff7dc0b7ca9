#ifndef TSP_TEXT_H
#define TSP_TEXT_H
/*
 * The text exposition format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats), with
 * OpenMetrics 1.0's additions (exemplars, _created, # UNIT, # EOF, timestamps in seconds) when
 * `openmetrics`. One call of next() per line that carries something; names and unescaped values
 * lie in the reader's scratch until the next call. UTF-8 names in quotes inside braces are taken.
 *
 * Lines end with LF or CR LF. Names, values and escapes are checked here, UTF-8 too; that no name is
 * given twice or empty is kl_labels_finish's to find. A line is at most TSP_TEXT_LINE_MAX bytes. An
 * OpenMetrics body must end with "# EOF": without, its last item is a BAD_LINE that says so.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/labels.h"

enum { TSP_TEXT_LINE_MAX = 512 * 1024 };
enum tsp_text_item { TSP_TEXT_END, TSP_TEXT_SAMPLE, TSP_TEXT_META, TSP_TEXT_BAD_LINE };
struct tsp_text_sample {
    struct kl_labels_builder *labels;                  /* __name__ included */
    struct kl_span series_raw;                         /* the bytes before the value, as sent */
    bool has_time; int64_t time_ms; double value;
    /* OpenMetrics: a sample of the family of the last # TYPE, a counter, histogram or summary; and of
     * those "<family>_created": its value is when the others of the same labels (but for le and
     * quantile) began, in seconds. */
    bool counts, created;
    bool has_exemplar, exemplar_has_time;              /* OpenMetrics: " # {...} value [time]" */
    struct kl_labels_builder *exemplar_labels;
    int64_t exemplar_ms; double exemplar_value;
};
enum tsp_meta_type { TSP_META_UNKNOWN, TSP_META_COUNTER, TSP_META_GAUGE, TSP_META_HISTOGRAM,
                     TSP_META_GAUGE_HISTOGRAM, TSP_META_SUMMARY, TSP_META_INFO, TSP_META_STATESET };
struct tsp_text_meta { struct kl_span metric, help, unit; uint8_t type; bool has_type, has_help, has_unit; };

struct tsp_text;                                       /* one thread */
struct tsp_text *tsp_text_new(void);
void tsp_text_free(struct tsp_text *t);
void tsp_text_open(struct tsp_text *t, struct kl_span body, bool openmetrics);
/* BAD_LINE: err names the line and column; the next call goes on with the next line. */
enum tsp_text_item tsp_text_next(struct tsp_text *t, struct tsp_text_sample *sample,
                                 struct tsp_text_meta *meta, struct kl_err *err);
#endif
