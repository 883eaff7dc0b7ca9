/*
 * Reading the text exposition format: every line with a sample is a series of one sample.
 * OpenMetrics' _created lines are the start times of the samples of the same metric and labels that
 * stand right before them, as its specification wants them to; one that stands alone is stored as the
 * series that it is written as.
 */
#include "doorman/dm_priv.h"

#include <math.h>
#include <string.h>

/* The samples of one metric and label set that were read last. */
enum { RECENT_MAX = 256 };
struct recent { uint32_t row, partition; uint64_t ref; int64_t time_ms; };
struct group { uint64_t labels; size_t count; struct recent all[RECENT_MAX]; };

/* What the samples of a histogram have in common: their labels, but for the bound of a bucket. */
static uint64_t labels_of(const struct tsp_text_sample *x)
{
    static const struct kl_span le = { "le", 2 }, quantile = { "quantile", 8 };
    uint64_t h = 1;

    for (size_t i = 1; i < x->labels->count; i++) {    /* the first is the name */
        const struct kl_label *l = &x->labels->pairs[i];
        if (kl_span_eq(l->name, le) || kl_span_eq(l->name, quantile))
            continue;
        h = kl_hash64_seed(l->name.at, l->name.size, h);
        h = kl_hash64_seed(l->value.at, l->value.size, h);
    }
    return h;
}

/* False: there is nothing that it is the start of. */
static bool take_created(struct dm_gate *g, struct dm_ticket *t, const struct dm_sender *sender,
                         struct group *gr, uint64_t labels, double seconds)
{
    if (gr->count == 0 || labels != gr->labels || !(fabs(seconds) < 9e12))
        return false;
    for (size_t i = 0; i < gr->count; i++) {
        const struct recent *r = &gr->all[i];
        struct dm_series     s = { .gate = g, .ticket = t, .sender = sender,
                                   .row = dm_table_at(g->table, r->row, r->partition, r->ref) };
        if (s.row != NULL)
            dm_series_start(&s, r->time_ms, (int64_t)round(seconds * 1000));
    }
    return true;
}

static void remember(struct group *gr, struct dm_gate *g, const struct dm_series *s, uint64_t labels,
                     int64_t time_ms)
{
    if (labels != gr->labels)
        gr->count = 0;
    gr->labels = labels;
    if (gr->count < RECENT_MAX)
        gr->all[gr->count++] = (struct recent){ dm_table_index(g->table, s->row), s->row->partition,
                                                s->row->ref, time_ms };
}

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
                        struct group *gr, const struct tsp_text_sample *x)
{
    struct dm_series s = { .gate = g, .ticket = t, .sender = sender,
                           .source = { .pairs = x->labels } };
    struct kl_fp     key = dm_key(sender, DM_TEXT, x->series_raw);
    int64_t          time_ms = x->has_time ? x->time_ms : t->push->now_ms;
    double           value = x->value;
    uint64_t         labels = x->counts ? labels_of(x) : 0;

    if (x->created && take_created(g, t, sender, gr, labels, x->value))
        return;
    t->timeless = t->timeless || !x->has_time;
    if (!dm_series_find(&s, &key, 1))
        return;
    dm_series_floats(&s, &time_ms, &value, NULL, 1);
    if (x->counts && !x->created && s.row != NULL)
        remember(gr, g, &s, labels, time_ms);
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
    struct group           gr;
    struct tsp_text_sample sample;
    struct tsp_text_meta   meta;
    enum tsp_text_item     item;
    struct kl_err          err;

    if (!dm_sender_of(g, t, &sender)) {
        dm_ticket_fail(t, 503, 1, "too many tenants");
        return;
    }
    gr.count = gr.labels = 0;
    kl_buf_reset(m.bytes);
    tsp_text_open(g->text, body, openmetrics);
    while ((item = tsp_text_next(g->text, &sample, &meta, &err)) != TSP_TEXT_END) {
        switch (item) {
        case TSP_TEXT_SAMPLE: take_sample(g, t, &sender, &gr, &sample); break;
        case TSP_TEXT_META:
            gr.count = 0;
            gather(g, t, &sender, &m, &meta);
            break;
        default:              dm_bad_line(t, err.text); break;
        }
    }
    send_on(g, t, &sender, &m);
}
