#include "doorman/dm_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/rw1.h"
#include "libtsproto/text.h"

enum { LOOK_AHEAD = 16, RUN = 256, HIST_ARENA = 8 << 20 };

/* One push being walked. */
struct walk {
    struct dm_gate *gate;
    struct dm_work *work;
    struct kl_span  tenant;
    uint64_t        tenant_hash;
    int64_t         oldest_ms, newest_ms, now_ms;
    uint64_t        hits, misses;
};

void dm_work_fail(struct dm_work *w, const char *why)
{
    if (!w->failed)
        snprintf(w->why, sizeof w->why, "%s", why);
    w->failed = true;
}

static void answer(struct dm_gate *g, struct dm_work *w)
{
    struct dm_doorman *d = g->doorman;
    struct dm_push    *p = w->push;

    p->refused = w->refusals.total;
    if (w->failed) {
        p->status = 503;
        p->retry_after_s = 1;
        snprintf(p->text, sizeof p->text, "not all of it could be stored, send it again: %s\n", w->why);
        kl_count(d->metrics.push_failed, 1);
    } else if (w->refusals.total > 0) {
        p->status = 400;
        dm_refusals_text(&w->refusals, p->text, sizeof p->text);
    } else {
        p->status = 204;
        p->text[0] = '\0';
    }
    if (!w->failed)
        kl_count(d->metrics.samples, p->samples_stored + p->hists_stored);
    for (int i = 1; i < DM_REASONS; i++)
        if (w->refusals.count[i] > 0)
            kl_count(d->metrics.refused[i], w->refusals.count[i]);
    free(w);
    p->done(p);
}

void dm_work_done(struct dm_gate *g, struct dm_work *w)
{
    assert(w->pending > 0);
    if (--w->pending == 0)
        answer(g, w);
}

/* ---- series ---- */

static struct kl_fp key_of(const struct walk *k, struct kl_span raw)
{
    struct kl_fp key = kl_hash128(raw.at, raw.size);

    key.hi ^= k->tenant_hash;
    return key;
}

/* The builder holds the labels as sent: inspected, put into canonical form in gate->scratch. */
static bool inspect(struct walk *k, bool sorted, struct kl_labels *labels)
{
    struct dm_gate *g = k->gate;
    enum dm_reason  reason;

    kl_buf_reset(&g->scratch);
    reason = dm_inspect(&g->builder, &g->doorman->options.limits, sorted, &g->scratch);
    if (reason != DM_FINE) {
        dm_refuse(&k->work->refusals, reason, &g->builder, NULL);
        return false;
    }
    *labels = (struct kl_labels){ .at = (const uint8_t *)g->scratch.at, .size = g->scratch.size };
    return true;
}

/* Remembers a series whose labels are in scratch, or places a remembered one anew. */
static struct dm_entry *place(struct walk *k, struct dm_entry *e, struct kl_fp key,
                              struct kl_labels labels, struct kl_fp fp)
{
    static const char name[] = "__name__";
    struct dm_gate   *g = k->gate;
    uint32_t          partition;

    partition = tsp_placement_of(g->placement, k->tenant,
                                 kl_labels_get(labels, kl_span(name, sizeof name - 1)), fp, k->now_ms);
    if (e == NULL) {
        e = dm_table_add(g->table, key);
    } else if (e->partition != partition) {
        e->defined_epoch = 0;                          /* elsewhere nobody knows it */
        e->defined_batch = 0;
    }
    e->partition = (uint16_t)partition;
    e->placed_epoch = g->placed_epoch;
    return e;
}

/*
 * The writer that the series' samples go to, its definition added where it is not known there yet; NULL when
 * the series is refused or its partition is full. `read` puts the labels as sent into the builder:
 * called only where they are needed.
 */
struct labels_source {
    bool (*read)(struct walk *k, const void *from);    /* false: refused, and said so */
    const void *from;
    bool sorted;
};

static struct tsp_record_writer *enter(struct walk *k, struct kl_fp key,
                                       const struct labels_source *source, struct dm_entry **entry)
{
    struct dm_gate  *g = k->gate;
    struct dm_entry *e = dm_table_find(g->table, key);
    struct kl_labels labels = { 0 };
    struct kl_fp     fp = { 0 };
    struct dm_route *r;
    struct tsp_record_writer *w;
    bool             have = false;

    if (e == NULL || e->placed_epoch != g->placed_epoch) {
        k->misses++;
        if (!source->read(k, source->from) || !inspect(k, source->sorted, &labels))
            return NULL;
        fp = kl_labels_fp(labels);
        e = place(k, e, key, labels, fp);
        have = true;
    } else {
        k->hits++;
    }
    r = &g->routes[e->partition];
    w = dm_route_open(r, k->work);
    if (w == NULL)
        return NULL;
    if (!dm_route_knows(r, e)) {
        if (!have) {
            if (!source->read(k, source->from) || !inspect(k, source->sorted, &labels))
                return NULL;                           /* cannot be: the same bytes were fine before */
            fp = kl_labels_fp(labels);
        }
        dm_route_define(r, e, k->tenant, fp, labels);
    }
    *entry = e;
    return w;
}

static enum dm_reason judge_time(const struct walk *k, int64_t ms)
{
    return ms < k->oldest_ms ? DM_TOO_OLD : ms > k->newest_ms ? DM_TOO_NEW : DM_FINE;
}

/* Drops samples outside the window; returns how many are left, moved to the front. */
static size_t in_window(struct walk *k, const struct labels_source *source, int64_t *times,
                        double *values, size_t n)
{
    size_t left = 0;

    for (size_t i = 0; i < n; i++) {
        enum dm_reason reason = judge_time(k, times[i]);
        if (reason == DM_FINE) {
            times[left] = times[i];
            values[left++] = values[i];
        } else {
            kl_labels_start(&k->gate->builder);
            source->read(k, source->from);
            dm_refuse(&k->work->refusals, reason, &k->gate->builder, NULL);
        }
    }
    return left;
}

/* ---- remote write 1.0 ---- */

static bool read_rw1(struct walk *k, const void *from)
{
    struct dm_gate *g = k->gate;
    struct kl_err   err;

    kl_labels_start(&g->builder);
    switch (tsp_rw1_labels(from, &g->builder, &err)) {
    case KL_OK:     return true;
    case KL_ELIMIT: dm_refuse(&k->work->refusals, DM_TOO_MANY_LABELS, &g->builder, NULL); return false;
    default:        dm_refuse(&k->work->refusals, DM_MALFORMED, NULL, err.text); return false;
    }
}

static void rw1_histograms(struct walk *k, const struct tsp_rw1_series *s, struct kl_fp key,
                           const struct labels_source *source)
{
    struct dm_gate *g = k->gate;
    struct kl_hist  h;
    struct kl_err   err;
    int64_t         ms;
    double          nothing = 0;

    for (size_t i = 0; i < s->hist_count; i++) {
        struct tsp_record_writer *w;
        struct dm_entry *e;
        kl_arena_deinit(&g->arena);
        if (!tsp_rw1_hist(s, i, &g->arena, &ms, &h, &err)) {
            dm_refuse(&k->work->refusals, DM_MALFORMED, NULL, err.text);
            break;
        }
        if (in_window(k, source, &ms, &nothing, 1) == 0)
            continue;
        w = enter(k, key, source, &e);
        if (w == NULL)
            break;
        tsp_record_hist(w, k->tenant, e->ref, ms, &h);
        k->work->push->hists_stored++;
        dm_route_added(&g->routes[e->partition]);
    }
}

static void rw1_exemplars(struct walk *k, const struct tsp_rw1_series *s, struct kl_fp key,
                          const struct labels_source *source)
{
    struct dm_gate *g = k->gate;
    struct kl_buf   bytes = { .cap = KL_LABELS_BYTES_MAX };
    struct kl_err   err;
    int64_t         ms;
    double          value;

    for (size_t i = 0; i < s->exemplar_count; i++) {
        struct tsp_record_writer *w;
        struct dm_entry *e;
        kl_labels_start(&g->builder);
        kl_buf_reset(&bytes);
        if (!tsp_rw1_exemplar(s, i, &g->builder, &ms, &value, &err) ||
            kl_labels_finish(&g->builder, &bytes, &err) != KL_OK) {
            dm_refuse(&k->work->refusals, DM_MALFORMED, NULL, err.text);
            continue;
        }
        if (judge_time(k, ms) != DM_FINE || !kl_utf8_ok(kl_span(bytes.at, bytes.size)))
            continue;                                  /* senders repeat old ones: no news, no error */
        w = enter(k, key, source, &e);
        if (w == NULL)
            break;
        tsp_record_exemplar(w, k->tenant, e->ref, ms, value,
                            (struct kl_labels){ .at = (const uint8_t *)bytes.at, .size = bytes.size });
        k->work->push->exemplars_stored++;
        dm_route_added(&g->routes[e->partition]);
    }
    kl_buf_deinit(&bytes);
}

static void rw1_series(struct walk *k, const struct tsp_rw1_series *s, struct kl_fp key)
{
    struct dm_gate *g = k->gate;
    struct labels_source source = { .read = read_rw1, .from = s, .sorted = true };
    int64_t         times[RUN];
    double          values[RUN];

    for (size_t skip = 0; skip < s->sample_count; ) {
        size_t n = tsp_rw1_samples(s, skip, times, values, RUN), good;
        struct tsp_record_writer *w;
        struct dm_entry *e;
        if (n == 0)
            break;
        skip += n;
        w = enter(k, key, &source, &e);                /* bad labels are named once, not per sample */
        if (w == NULL)
            return;
        good = in_window(k, &source, times, values, n);
        if (good == 0)
            continue;
        tsp_record_floats(w, k->tenant, e->ref, times, values, good);
        k->work->push->samples_stored += good;
        dm_route_added(&g->routes[e->partition]);
    }
    if (s->hist_count > 0)
        rw1_histograms(k, s, key, &source);
    if (s->exemplar_count > 0)
        rw1_exemplars(k, s, key, &source);
}

static void metadata(struct walk *k, struct kl_span metric, uint8_t type, struct kl_span unit,
                     struct kl_span help)
{
    struct dm_gate *g = k->gate;
    const struct dm_limits *limits = &g->doorman->options.limits;
    struct tsp_record_writer *w;
    uint32_t        partition;

    if (metric.size == 0 || metric.size > limits->value_bytes_max || !kl_utf8_ok(metric) ||
        !kl_utf8_ok(unit) || unit.size > limits->value_bytes_max || !kl_utf8_ok(help))
        return;                                        /* a hint for people, not data */
    if (help.size > limits->value_bytes_max)
        help = kl_span("", 0);
    partition = tsp_placement_of(g->placement, k->tenant, metric, (struct kl_fp){ 0 }, k->now_ms);
    w = dm_route_open(&g->routes[partition], k->work);
    if (w == NULL)
        return;
    tsp_record_metadata(w, k->tenant, metric, type, unit, help);
    dm_route_added(&g->routes[partition]);
}

static void walk_rw1(struct walk *k, struct kl_span message)
{
    struct tsp_rw1          r;
    struct tsp_rw1_series   series[LOOK_AHEAD];
    struct kl_fp            keys[LOOK_AHEAD];
    struct tsp_rw1_metadata meta;
    struct kl_err           err;
    enum tsp_rw1_item       item = TSP_RW1_SERIES;

    tsp_rw1_open(&r, message);
    while (item != TSP_RW1_END && item != TSP_RW1_BROKEN) {
        size_t n = 0;
        while (n < LOOK_AHEAD && (item = tsp_rw1_next(&r, &series[n], &meta, &err)) != TSP_RW1_END &&
               item != TSP_RW1_BROKEN) {
            if (item == TSP_RW1_META) {
                metadata(k, meta.metric, meta.type, meta.unit, meta.help);
                continue;
            }
            /* A series whose labels lie apart is keyed by its whole body: never found again, but right. */
            keys[n] = key_of(k, series[n].labels_raw.at != NULL ? series[n].labels_raw : series[n].body);
            dm_table_prefetch(k->gate->table, keys[n]);
            n++;
        }
        for (size_t i = 0; i < n; i++)
            rw1_series(k, &series[i], keys[i]);
    }
    if (item == TSP_RW1_BROKEN)
        dm_refuse(&k->work->refusals, DM_MALFORMED, NULL, err.text);
}

/* ---- text ---- */

static bool read_text(struct walk *k, const void *from)
{
    struct kl_labels_builder *b = &k->gate->builder;

    *b = *(const struct kl_labels_builder *)from;
    return true;
}

static void walk_text(struct walk *k, struct kl_span body, bool openmetrics)
{
    struct dm_gate        *g = k->gate;
    struct tsp_text_sample s;
    struct tsp_text_meta   meta;
    struct kl_err          err;
    enum tsp_text_item     item;

    tsp_text_open(g->text, body, openmetrics);
    while ((item = tsp_text_next(g->text, &s, &meta, &err)) != TSP_TEXT_END) {
        struct tsp_record_writer *w;
        struct dm_entry *e;
        if (item == TSP_TEXT_BAD_LINE) {
            dm_refuse(&k->work->refusals, DM_MALFORMED, NULL, err.text);
        } else if (item == TSP_TEXT_META) {
            metadata(k, meta.metric, meta.type, meta.unit, meta.help);
        } else {
            struct labels_source source = { .read = read_text, .from = s.labels, .sorted = false };
            int64_t ms = s.has_time ? s.time_ms : k->now_ms;
            if (in_window(k, &source, &ms, &s.value, 1) == 0)
                continue;
            w = enter(k, key_of(k, s.series_raw), &source, &e);
            if (w == NULL)
                continue;
            tsp_record_floats(w, k->tenant, e->ref, &ms, &s.value, 1);
            k->work->push->samples_stored++;
            dm_route_added(&g->routes[e->partition]);
        }
    }
}

/* ---- a push ---- */

static void walk_push(struct dm_gate *g, struct dm_work *w)
{
    const struct dm_limits *limits = &g->doorman->options.limits;
    struct dm_push *p = w->push;
    struct kl_span  tenant = kl_span_str(p->tenant), body = kl_span(p->body, p->body_size);
    struct walk     k = {
        .gate = g, .work = w, .tenant = tenant, .now_ms = p->now_ms,
        .tenant_hash = kl_hash64(tenant.at, tenant.size) ^ (uint64_t)p->format,
        .oldest_ms = limits->past_ms > 0 ? p->now_ms - limits->past_ms : INT64_MIN,
        .newest_ms = limits->future_ms > 0 ? p->now_ms + limits->future_ms : INT64_MAX,
    };
    uint64_t evicted = dm_table_evicted(g->table);

    g->now_s = (uint32_t)(kl_env_mono_ns(g->doorman->env) / 1000000000);
    switch (p->format) {
    case DM_RW1:         walk_rw1(&k, body); break;
    case DM_TEXT:        walk_text(&k, body, false); break;
    case DM_OPENMETRICS: walk_text(&k, body, true); break;
    }
    kl_count(g->doorman->metrics.hits, k.hits);
    kl_count(g->doorman->metrics.misses, k.misses);
    kl_count(g->doorman->metrics.evicted, dm_table_evicted(g->table) - evicted);
    dm_routes_after_push(g);
}

void dm_gate_push(struct kl_env_task *task)
{
    struct dm_push *p = kl_container_of(task, struct dm_push, task);
    struct dm_gate *g = p->gate;
    struct dm_work *w = kl_new(sizeof *w);

    w->push = p;
    w->pending = 1;
    if (g->stopping)
        dm_work_fail(w, "stopping");
    else if (g->placement == NULL)
        dm_work_fail(w, "the placement table is not known yet");
    else
        walk_push(g, w);
    free(p->body);
    p->body = NULL;
    atomic_fetch_sub(&g->doorman->inflight_bytes, p->body_size);
    kl_count(g->doorman->metrics.pushes, 1);
    dm_work_done(g, w);
}
