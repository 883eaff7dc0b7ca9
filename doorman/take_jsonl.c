/* Reading JSON lines: an object is a series with its samples and histograms. */
#include "doorman/dm_priv.h"

static void take_hists(struct dm_series *s, struct tsp_jsonl_series *x)
{
    struct kl_arena *arena = &s->gate->arena;
    struct kl_hist   h;
    struct kl_err    err;
    int64_t          time_ms, start_ms;

    if (x->hist_count > DM_HISTS_MAX) {
        dm_series_refuse(s, DM_BAD_HIST, x->hist_count);
        return;
    }
    for (size_t left = x->hist_count; left > 0; left--) {
        kl_arena_deinit(arena);
        if (tsp_jsonl_walk_hist(x, arena, &time_ms, &start_ms, &h, &err))
            dm_series_hist(s, time_ms, start_ms, &h);
        else
            dm_series_refuse(s, DM_BAD_HIST, 1);
    }
    kl_arena_deinit(arena);
}

static void take_series(struct dm_gate *g, struct dm_ticket *t, const struct dm_sender *sender,
                        struct tsp_jsonl_series *x)
{
    struct dm_series s = { .gate = g, .ticket = t, .sender = sender, .source = { .pairs = x->labels } };
    struct kl_fp     key = dm_key(sender, DM_JSONL, x->labels_raw);
    int64_t          times_ms[DM_RUN_MAX], starts_ms[DM_RUN_MAX];
    double           values[DM_RUN_MAX];
    uint64_t         bad = 0, weight = (uint64_t)x->count + x->hist_count;
    int64_t         *starts = x->start != NULL ? starts_ms : NULL;
    size_t           n;

    if (!dm_series_find(&s, &key, weight > 0 ? weight : 1))
        return;
    while ((n = tsp_jsonl_walk(x, times_ms, values, starts, DM_RUN_MAX, &bad)) > 0)
        dm_series_floats(&s, times_ms, values, starts, n);
    dm_series_refuse(&s, DM_BAD_NUMBER, bad);
    take_hists(&s, x);
}

void dm_take_jsonl(struct dm_gate *g, struct dm_ticket *t, struct kl_span body)
{
    struct dm_sender        sender;
    struct tsp_jsonl_series series;
    enum tsp_jsonl_item     item;
    struct kl_err           err;

    if (!dm_sender_of(g, t, &sender)) {
        dm_ticket_fail(t, 503, 1, "too many tenants");
        return;
    }
    tsp_jsonl_open(g->jsonl, body);
    while ((item = tsp_jsonl_next(g->jsonl, &series, &err)) != TSP_JSONL_END) {
        if (item == TSP_JSONL_SERIES)
            take_series(g, t, &sender, &series);
        else
            dm_bad_line(t, err.text);
    }
}
