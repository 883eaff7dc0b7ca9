/*
 * Reading a remote write 2.0 message: as take_rw1.c, with the symbols' hashes for keys, start times
 * beside samples, and metadata beside series.
 */
#include "doorman/dm_priv.h"

#include <string.h>

enum { METRICS_TOLD = 64 };                            /* remembered while a message is read */

struct group {
    struct dm_gate   *gate;
    struct dm_ticket *ticket;
    struct dm_sender  sender;
    struct tsp_rw2    in;
    size_t            count;
    struct tsp_rw2_series series[DM_TABLE_GROUP];
    struct kl_fp      keys[DM_TABLE_GROUP];
    uint64_t          told[METRICS_TOLD];
};

static void take_samples(struct dm_series *s)
{
    struct tsp_rw2_walk walk = tsp_rw2_walk(s->source.rw2_in, s->source.rw2);
    int64_t times_ms[DM_RUN_MAX], starts_ms[DM_RUN_MAX];
    double  values[DM_RUN_MAX];
    size_t  n;

    while ((n = tsp_rw2_walk_samples(&walk, times_ms, values, starts_ms, DM_RUN_MAX)) > 0)
        dm_series_floats(s, times_ms, values, starts_ms, n);
}

static void take_hists(struct dm_series *s)
{
    struct tsp_rw2_walk walk = tsp_rw2_walk(s->source.rw2_in, s->source.rw2);
    struct kl_hist h;
    struct kl_err  err = { 0 };
    int64_t        time_ms, start_ms;
    uint32_t       left = s->source.rw2->hist_count;

    if (left > DM_HISTS_MAX) {
        dm_series_refuse(s, DM_BAD_HIST, left);
        return;
    }
    for (; left > 0; left--) {
        kl_arena_deinit(&s->gate->arena);
        if (tsp_rw2_walk_hist(&walk, &s->gate->arena, &time_ms, &start_ms, &h, &err))
            dm_series_hist(s, time_ms, start_ms, &h);
        else
            dm_series_refuse(s, DM_BAD_HIST, 1);
    }
    kl_arena_deinit(&s->gate->arena);
}

static void take_exemplars(struct dm_series *s)
{
    struct tsp_rw2_walk walk = tsp_rw2_walk(s->source.rw2_in, s->source.rw2);
    struct kl_err err = { 0 };
    int64_t       time_ms;
    double        value;
    uint32_t      left = s->source.rw2->exemplar_count;

    if (left > DM_EXEMPLARS_MAX) {
        dm_series_refuse(s, DM_BAD_EXEMPLAR, left);
        return;
    }
    for (; left > 0; left--) {
        if (tsp_rw2_walk_exemplar(&walk, &s->gate->aside, &time_ms, &value, &err))
            dm_series_exemplar(s, time_ms, value, &s->gate->aside);
        else
            dm_series_refuse(s, DM_BAD_EXEMPLAR, 1);
    }
}

/*
 * Every series brings its metric's metadata, every time. It is passed on when the series is defined,
 * so hourly, and once a metric in a message (give or take two names that share a place).
 */
static void take_metadata(struct group *gr, struct dm_series *s)
{
    struct tsp_rw2_metadata m;
    struct kl_span metric = kl_labels_get(s->labels, kl_span("__name__", 8));
    struct kl_err  err;
    uint64_t       hash = kl_hash64(metric.at, metric.size);

    if (gr->told[hash % METRICS_TOLD] == hash)
        return;
    gr->told[hash % METRICS_TOLD] = hash;
    if (tsp_rw2_metadata(&gr->in, s->source.rw2, &m, &err) != KL_OK)
        dm_series_refuse(s, DM_BAD_METADATA, 1);
    else if (m.type != 0 || m.help.size > 0 || m.unit.size > 0)
        dm_metadata(gr->gate, gr->ticket, &gr->sender, metric, m.type, m.unit, m.help);
}

/* What a rule drops is done with: told that it was not written, a sender would call it an error. */
static void pass_over(struct dm_series *s, const struct tsp_rw2_series *x)
{
    struct dm_push *p = s->ticket->push;

    if (!s->passed_over)
        return;
    p->samples_passed_over += x->sample_count;
    p->hists_passed_over += x->hist_count;
    p->exemplars_passed_over += x->exemplar_count;
}

static void take_group(struct group *gr)
{
    dm_table_prefetch(gr->gate->table, gr->keys, gr->count);
    for (size_t i = 0; i < gr->count; i++) {
        const struct tsp_rw2_series *x = &gr->series[i];
        struct dm_series s = { .gate = gr->gate, .ticket = gr->ticket, .sender = &gr->sender,
                               .source = { .rw2_in = &gr->in, .rw2 = x } };
        uint64_t weight = (uint64_t)x->sample_count + x->hist_count + x->exemplar_count;

        if (!dm_series_find(&s, &gr->keys[i], weight > 0 ? weight : 1)) {
            pass_over(&s, x);
            continue;
        }
        if (x->sample_count > 0)
            take_samples(&s);
        if (x->hist_count > 0)
            take_hists(&s);
        if (x->exemplar_count > 0)
            take_exemplars(&s);
        if (s.defined && x->metadata.at != NULL)
            take_metadata(gr, &s);
    }
    gr->count = 0;
}

/* Its key, or the refusal of its labels: an index out of range, an odd number of them. */
static bool key_of(struct group *gr, size_t i)
{
    const struct tsp_rw2_series *x = &gr->series[i];
    uint64_t      weight = (uint64_t)x->sample_count + x->hist_count + x->exemplar_count;
    struct kl_fp  hash;
    struct kl_err err;
    enum dm_reason why;
    struct kl_labels_builder *b = &gr->gate->builder;

    if (tsp_rw2_key(&gr->in, x, &hash, &err) == KL_OK) {
        gr->keys[i] = dm_key_of(&gr->sender, DM_RW2, hash);
        return true;
    }
    why = err.code == KL_ELIMIT ? DM_TOO_MANY_LABELS : DM_MALFORMED;
    weight = weight > 0 ? weight : 1;
    kl_labels_start(b);
    if (gr->ticket->report.counts[why] == 0)      /* what can be read of it, for a name */
        tsp_rw2_labels(&gr->in, x, b, &(struct kl_err){ 0 });
    dm_report_add(&gr->ticket->report, why, weight, b->count > 0 ? b : NULL, err.text);
    gr->ticket->seen += weight;
    return false;
}

static void broken(struct group *gr, const struct kl_err *err)
{
    dm_report_add(&gr->ticket->report, DM_BROKEN, 1, NULL, err->text);
}

void dm_take_rw2(struct dm_gate *g, struct dm_ticket *t, struct kl_span body)
{
    struct group      gr = { .gate = g, .ticket = t };
    enum tsp_rw2_item item;
    struct kl_err     err;

    if (!dm_sender_of(g, t, &gr.sender)) {
        dm_ticket_fail(t, 503, 1, "too many tenants");
        return;
    }
    switch (tsp_rw2_open(&gr.in, body, &g->symbols, &err)) {
    case KL_OK:
        do {
            item = tsp_rw2_next(&gr.in, &gr.series[gr.count], &err);
            gr.count += item == TSP_RW2_SERIES && key_of(&gr, gr.count);
            if (gr.count == DM_TABLE_GROUP || item != TSP_RW2_SERIES)
                take_group(&gr);
        } while (item == TSP_RW2_SERIES);
        if (item == TSP_RW2_BROKEN)
            broken(&gr, &err);
        break;
    case KL_ELIMIT:
        dm_ticket_fail(t, 413, 0, "%s", err.text);
        break;
    default:
        broken(&gr, &err);
        break;
    }
    kl_arena_deinit(&g->symbols);
}
