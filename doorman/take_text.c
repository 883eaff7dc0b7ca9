/*
 * Reading the text exposition format: every line with a sample is a series of one sample.
 * OpenMetrics' _created lines are stored as the series that they are written as.
 */
#include "doorman/dm_priv.h"

#include <string.h>

/* HELP, TYPE and UNIT of one metric come as lines of their own, and are sent on as one. */
struct gathered {
    uint8_t type;
    struct kl_buf *bytes;                              /* metric, help, unit, one after the other */
    size_t  metric_size, help_size, unit_size;
};

static void send_on(struct dm_gate *g, struct dm_ticket *t, const struct dm_sender *sender,
                    struct gathered *m)
{
    const char *at = m->bytes->at;

    if (m->metric_size > 0)
        dm_metadata(g, t, sender, kl_span(at, m->metric_size), m->type,
                    kl_span(at + m->metric_size + m->help_size, m->unit_size),
                    kl_span(at + m->metric_size, m->help_size));
    kl_buf_reset(m->bytes);
    m->metric_size = m->help_size = m->unit_size = 0;
    m->type = TSP_META_UNKNOWN;
}

static void gather(struct dm_gate *g, struct dm_ticket *t, const struct dm_sender *sender,
                   struct gathered *m, const struct tsp_text_meta *line)
{
    bool same = line->metric.size == m->metric_size && m->metric_size > 0 &&
                memcmp(m->bytes->at, line->metric.at, m->metric_size) == 0;
    bool behind = line->has_help && m->unit_size > 0;  /* help would have to go before unit */

    if (!same || behind || (line->has_help && m->help_size > 0) ||
        (line->has_unit && m->unit_size > 0)) {
        send_on(g, t, sender, m);
        kl_buf_add(m->bytes, line->metric.at, line->metric.size);
        m->metric_size = m->bytes->size;
    }
    if (line->has_type)
        m->type = line->type;
    if (line->has_help) {
        kl_buf_add(m->bytes, line->help.at, line->help.size);
        m->help_size = m->bytes->size - m->metric_size;
    }
    if (line->has_unit) {
        kl_buf_add(m->bytes, line->unit.at, line->unit.size);
        m->unit_size = m->bytes->size - m->metric_size - m->help_size;
    }
}

static void take_sample(struct dm_gate *g, struct dm_ticket *t, const struct dm_sender *sender,
                        const struct tsp_text_sample *x)
{
    struct dm_series s = { .gate = g, .ticket = t, .sender = sender,
                           .source = { .pairs = x->labels } };
    struct kl_fp     key = dm_key(sender, DM_TEXT, x->series_raw);
    int64_t          time_ms = x->has_time ? x->time_ms : t->push->now_ms;
    double           value = x->value;

    t->timeless = t->timeless || !x->has_time;
    if (!dm_series_find(&s, &key, 1))
        return;
    dm_series_floats(&s, &time_ms, &value, NULL, 1);
    if (x->has_exemplar)
        dm_series_exemplar(&s, x->exemplar_has_time ? x->exemplar_ms : t->push->now_ms,
                           x->exemplar_value, x->exemplar_labels);
}

void dm_bad_line(struct dm_ticket *t, const char *words)
{
    dm_report_add(&t->report, DM_BAD_LINE, 1, NULL, words);
}

void dm_take_text(struct dm_gate *g, struct dm_ticket *t, struct kl_span body, bool openmetrics)
{
    struct dm_sender       sender;
    struct gathered        m = { .bytes = &g->meta };
    struct tsp_text_sample sample;
    struct tsp_text_meta   meta;
    enum tsp_text_item     item;
    struct kl_err          err;

    if (!dm_sender_of(g, t, &sender)) {
        dm_ticket_fail(t, 503, 1, "too many tenants");
        return;
    }
    kl_buf_reset(m.bytes);
    tsp_text_open(g->text, body, openmetrics);
    while ((item = tsp_text_next(g->text, &sample, &meta, &err)) != TSP_TEXT_END) {
        switch (item) {
        case TSP_TEXT_SAMPLE: take_sample(g, t, &sender, &sample); break;
        case TSP_TEXT_META:   gather(g, t, &sender, &m, &meta); break;
        default:              dm_bad_line(t, err.text); break;
        }
    }
    send_on(g, t, &sender, &m);
}
