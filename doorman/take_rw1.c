/*
 * Reading a remote write 1.0 message. Series are taken in groups of DM_TABLE_GROUP: hashed first,
 * their rows loaded meanwhile, then looked up one by one.
 */
#include "doorman/dm_priv.h"

struct group {
    struct dm_gate   *gate;
    struct dm_ticket *ticket;
    struct dm_sender  sender;
    size_t            count;
    struct tsp_rw1_series series[DM_TABLE_GROUP];
    struct kl_fp      keys[DM_TABLE_GROUP];
};

/* Where a series' samples begin: behind its labels, when these lie in front. */
static struct kl_cur walk_from(const struct tsp_rw1_series *s)
{
    const uint8_t *begin = s->body.at, *end = begin + s->body.size;

    if (s->labels_raw.at != NULL)
        begin = (const uint8_t *)s->labels_raw.at + s->labels_raw.size;
    return kl_cur(begin, (size_t)(end - begin));
}

static void take_samples(struct dm_series *s)
{
    struct kl_cur walk = walk_from(s->source.rw1);
    int64_t times_ms[DM_RUN_MAX];
    double  values[DM_RUN_MAX];
    size_t  n;

    while ((n = tsp_rw1_walk_samples(&walk, times_ms, values, DM_RUN_MAX)) > 0)
        dm_series_floats(s, times_ms, values, NULL, n);
}

static void take_hists(struct dm_series *s)
{
    struct kl_cur  walk = walk_from(s->source.rw1);
    struct kl_hist h;
    struct kl_err  err = { 0 };
    int64_t        time_ms;
    uint32_t       left = s->source.rw1->hist_count;

    if (left > DM_HISTS_MAX) {
        dm_series_refuse(s, DM_BAD_HIST, left);
        return;
    }
    for (; left > 0; left--) {
        kl_arena_deinit(&s->gate->arena);
        if (tsp_rw1_walk_hist(&walk, &s->gate->arena, &time_ms, &h, &err))
            dm_series_hist(s, time_ms, 0, &h);
        else
            dm_series_refuse(s, DM_BAD_HIST, 1);
    }
    kl_arena_deinit(&s->gate->arena);
}

static void take_exemplars(struct dm_series *s)
{
    struct kl_cur walk = walk_from(s->source.rw1);
    struct kl_err err = { 0 };
    int64_t       time_ms;
    double        value;
    uint32_t      left = s->source.rw1->exemplar_count;

    if (left > DM_EXEMPLARS_MAX) {
        dm_series_refuse(s, DM_BAD_EXEMPLAR, left);
        return;
    }
    for (; left > 0; left--) {
        if (tsp_rw1_walk_exemplar(&walk, &s->gate->aside, &time_ms, &value, &err))
            dm_series_exemplar(s, time_ms, value, &s->gate->aside);
        else
            dm_series_refuse(s, DM_BAD_EXEMPLAR, 1);
    }
}

static void take_group(struct group *gr)
{
    dm_table_prefetch(gr->gate->table, gr->keys, gr->count);
    for (size_t i = 0; i < gr->count; i++) {
        const struct tsp_rw1_series *x = &gr->series[i];
        struct dm_series s = { .gate = gr->gate, .ticket = gr->ticket, .sender = &gr->sender,
                               .source = { .rw1 = x } };
        bool     raw = x->labels_raw.at != NULL;
        uint64_t weight = (uint64_t)x->sample_count + x->hist_count + x->exemplar_count;

        if (!dm_series_find(&s, raw ? &gr->keys[i] : NULL, weight > 0 ? weight : 1))
            continue;
        if (x->sample_count > 0)
            take_samples(&s);
        if (x->hist_count > 0)
            take_hists(&s);
        if (x->exemplar_count > 0)
            take_exemplars(&s);
    }
    gr->count = 0;
}

void dm_take_rw1(struct dm_gate *g, struct dm_ticket *t, struct kl_span body)
{
    struct group            gr = { .gate = g, .ticket = t };
    struct tsp_rw1          r;
    struct tsp_rw1_metadata meta;
    struct tsp_rw1_series  *x;
    enum tsp_rw1_item       item;
    struct kl_err           err;

    if (!dm_sender_of(g, t, &gr.sender)) {
        dm_ticket_fail(t, 503, 1, "too many tenants");
        return;
    }
    tsp_rw1_open(&r, body);
    do {
        x = &gr.series[gr.count];
        item = tsp_rw1_next(&r, x, &meta, &err);
        if (item == TSP_RW1_META)
            dm_metadata(g, t, &gr.sender, meta.metric, meta.type, meta.unit, meta.help);
        if (item == TSP_RW1_SERIES) {
            if (x->labels_raw.at != NULL)
                gr.keys[gr.count] = dm_key(&gr.sender, DM_RW1, x->labels_raw);
            gr.count++;
        }
        if (gr.count == DM_TABLE_GROUP || (item != TSP_RW1_SERIES && item != TSP_RW1_META))
            take_group(&gr);
    } while (item == TSP_RW1_SERIES || item == TSP_RW1_META);
    if (item == TSP_RW1_BROKEN) {
        dm_report_add(&t->report, DM_BROKEN, 1, NULL, err.text);
    }
}
