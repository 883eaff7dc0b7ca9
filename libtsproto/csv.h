#ifndef TSP_CSV_H
#define TSP_CSV_H
/*
 * Comma-separated values (RFC 4180), their columns explained as in VictoriaMetrics:
 *
 *   column:type:context, ...       2:metric:ask,3:metric:bid,1:label:ticker,4:time:unix_s
 *
 * Columns count from 1. A metric's context is its name, a label's its name. A time's is unix_s, unix_ms,
 * unix_ns, rfc3339 or custom:LAYOUT, as Go writes layouts (timetext_priv.h has the list; no comma).
 * At least one metric; at most one time; a column once. Columns that are not named mean nothing.
 *
 * A row is as many samples as it has metric columns that are not empty. A cell in quotes may hold
 * commas, line ends and doubled quotes. A row is checked whole but for its values: next() gives labels
 * and time, metric() each value: a bad one spoils no other. A row is shorter than TSP_CSV_ROW_MAX.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/labels.h"

enum { TSP_CSV_ROW_MAX = 512 * 1024, TSP_CSV_COLUMNS_MAX = 1024, TSP_CSV_FORMAT_MAX = 16 * 1024 };

struct tsp_csv_format;                                 /* immutable; any thread */
/* KL_EINVAL, KL_ELIMIT: err says which part of the text. `text` is copied. */
enum kl_code tsp_csv_format_parse(const char *text, struct tsp_csv_format **out, struct kl_err *err);
void         tsp_csv_format_free(struct tsp_csv_format *f);
struct kl_span tsp_csv_format_text(const struct tsp_csv_format *f);    /* as given */

enum tsp_csv_item { TSP_CSV_END, TSP_CSV_ROW, TSP_CSV_BAD_ROW };
struct tsp_csv_row {
    struct kl_labels_builder *labels;                  /* pairs[0] is __name__: the caller's to fill */
    struct kl_span labels_raw;                         /* what tells this row's labels from others' */
    bool has_time; int64_t time_ms;
};
enum tsp_csv_value { TSP_CSV_NO_MORE, TSP_CSV_NUMBER, TSP_CSV_BAD_VALUE };
struct tsp_csv_cell { struct kl_span metric; double value; };

struct tsp_csv;                                        /* one thread */
struct tsp_csv *tsp_csv_new(void);
void tsp_csv_free(struct tsp_csv *t);
void tsp_csv_open(struct tsp_csv *t, struct kl_span body, const struct tsp_csv_format *f);
/* BAD_ROW: err names line and column; the next call goes on with the next line. */
enum tsp_csv_item  tsp_csv_next(struct tsp_csv *t, struct tsp_csv_row *row, struct kl_err *err);
/* Of the row that next() gave last. BAD_VALUE: the metric is filled, err says where it stands. */
enum tsp_csv_value tsp_csv_metric(struct tsp_csv *t, struct tsp_csv_cell *cell, struct kl_err *err);
#endif
