#ifndef TSP_INFLUX_H
#define TSP_INFLUX_H
/*
 * InfluxDB's line protocol, the same in v1 and v2 (docs.influxdata.com, "Line protocol reference"):
 *
 *   measurement[,tag=value ...] SP field=value[,field=value ...] [SP timestamp] LF
 *
 * A line is several samples: one a field. next() gives the line with its measurement, tags and time,
 * field() then one field after the other. Names and unescaped values lie in the reader's scratch or in
 * the body: tags until the next line, a field's name until the next field.
 *
 * In names and tag values a backslash before a comma, a blank, '=' or a backslash is taken away, any
 * other stands for itself (as in VictoriaMetrics; InfluxDB keeps a doubled one double). Field values:
 * a decimal number, an integer with 'i', an unsigned one with 'u', t T true True TRUE and f F false
 * False FALSE as 1 and 0, or a text in quotes, which may hold line ends. A line that begins with '#' is
 * a comment. A line's form is checked before it is handed out, each value when it is asked for: a bad
 * one spoils no other. A line is shorter than TSP_INFLUX_LINE_MAX bytes. That names are UTF-8 and
 * none is given twice is the caller's to find.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/labels.h"

enum { TSP_INFLUX_LINE_MAX = 512 * 1024 };
enum tsp_influx_item { TSP_INFLUX_END, TSP_INFLUX_LINE, TSP_INFLUX_BAD_LINE };
struct tsp_influx_line {
    struct kl_span measurement;                        /* never empty */
    /* The tags. pairs[0] is __name__ with an empty value: the caller's to fill, field by field. */
    struct kl_labels_builder *labels;
    struct kl_span series_raw;                         /* measurement and tags, as sent */
    bool has_time; int64_t time;                       /* in whatever unit the sender said */
};
enum tsp_influx_value { TSP_INFLUX_NO_MORE, TSP_INFLUX_NUMBER, TSP_INFLUX_TEXT, TSP_INFLUX_BAD_VALUE };
struct tsp_influx_field { struct kl_span name, name_raw; double value; };

struct tsp_influx;                                     /* one thread */
struct tsp_influx *tsp_influx_new(void);
void tsp_influx_free(struct tsp_influx *t);
void tsp_influx_open(struct tsp_influx *t, struct kl_span body);
/* BAD_LINE: err names the line and column; the next call goes on with the next line. */
enum tsp_influx_item  tsp_influx_next(struct tsp_influx *t, struct tsp_influx_line *line,
                                      struct kl_err *err);
/* Of the line that next() gave last. TEXT: a field that has no number; its name is filled. BAD_VALUE:
 * its name is filled, err says what is wrong; the next call goes on with the next field. */
enum tsp_influx_value tsp_influx_field(struct tsp_influx *t, struct tsp_influx_field *field,
                                       struct kl_err *err);
#endif
