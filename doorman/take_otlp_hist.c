/* Histograms of OTLP: explicit buckets as a classic histogram or a native one of custom bounds,
 * exponential ones as native ones; and exemplars. */
#include "doorman/otlp_priv.h"

#include <math.h>

/* Explicit buckets in the gate's scratch: bounds, then counts, one more. */
struct explicit { double *bounds, *counts; uint32_t bound_count; double count, sum; uint64_t start_ns; };

static bool read_buckets(struct dm_otlp *o, const struct tsp_otlp_point *p, struct explicit *e)
{
    struct kl_buf          *room = &o->gate->numbers;
    struct tsp_otlp_numbers bounds = tsp_otlp_bounds(p), counts = tsp_otlp_buckets(p);
    struct kl_err           err;
    uint64_t                bits;
    uint32_t                n = 0;

    kl_buf_reset(room);
    if (tsp_otlp_hist_check(p, &err) != KL_OK || p->bound_count > DM_HIST_BUCKETS_MAX ||
        !kl_buf_reserve(room, (2 * (size_t)p->bound_count + 1) * sizeof(double))) {
        dm_otlp_refuse(o, p, DM_BAD_HIST);
        return false;
    }
    *e = (struct explicit){ .bounds = (double *)(void *)room->at, .bound_count = p->bound_count,
                            .count = (double)p->count, .sum = p->sum, .start_ns = p->start_ns };
    e->counts = e->bounds + e->bound_count;
    while (tsp_otlp_numbers_next(&bounds, &bits) && n < e->bound_count)
        e->bounds[n++] = kl_bits_f64(bits);
    e->counts[0] = (double)p->count;                   /* no buckets at all: one, that holds everything */
    for (n = 0; n <= e->bound_count && tsp_otlp_numbers_next(&counts, &bits); n++)
        e->counts[n] = (double)bits;
    /* A bound of +Inf is the last bucket's own, which is told anyway. */
    if (e->bound_count > 0 && e->bounds[e->bound_count - 1] == INFINITY) {
        e->counts[e->bound_count - 1] += e->counts[e->bound_count];
        e->bound_count--;
    }
    return true;
}

static bool add_up(struct dm_otlp *o, const struct tsp_otlp_point *p, struct explicit *e)
{
    struct dm_delta_of of = dm_otlp_delta(o, p);

    return dm_otlp_added(o, p, dm_deltas_hist(o->gate->deltas, &of, e->bounds, e->bound_count, e->counts,
                                              &e->count, &e->sum, &e->start_ns));
}

/* ---- exemplars ---- */

static void put_exemplar(struct dm_otlp *o, const struct tsp_otlp_point *p, const struct explicit *e,
                         struct dm_series *s, uint64_t time_ns, double value)
{
    struct dm_series bucket;
    uint32_t         i = 0, end;

    if (e != NULL) {                                   /* the smallest bucket that holds it */
        for (end = e->bound_count; i < end; ) {
            uint32_t middle = i + (end - i) / 2;
            if (value <= e->bounds[middle])
                end = middle;
            else
                i = middle + 1;
        }
        if (!dm_otlp_find(o, p, DM_OTLP_BUCKET, i < e->bound_count ? e->bounds[i] : INFINITY, &bucket))
            return;
        s = &bucket;
    }
    dm_series_exemplar(s, dm_otlp_ms(time_ns), value, &o->gate->aside);
}

static void take_exemplars(struct dm_otlp *o, const struct tsp_otlp_point *p, const struct explicit *e,
                           struct dm_series *s)
{
    struct kl_cur c = tsp_otlp_in(p->body);
    bool          many = p->exemplar_count > DM_EXEMPLARS_MAX;
    uint64_t      time_ns, refused = o->ticket->report.total;
    double        value;
    struct kl_err err;

    if (many)
        dm_otlp_refuse(o, p, DM_BAD_EXEMPLAR);
    for (uint32_t left = many ? 0 : p->exemplar_count; left > 0; left--) {
        kl_arena_deinit(&o->gate->arena);
        if (tsp_otlp_exemplar_next(&c, p, &o->gate->arena, &o->gate->aside, &time_ns, &value, &err))
            put_exemplar(o, p, e, s, time_ns, value);
        else
            dm_otlp_refuse(o, p, DM_BAD_EXEMPLAR);
    }
    o->exemplars_refused += o->ticket->report.total - refused;
    kl_arena_deinit(&o->gate->arena);
}

void dm_otlp_exemplars(struct dm_otlp *o, const struct tsp_otlp_point *p, struct dm_series *s)
{
    take_exemplars(o, p, NULL, s);
}

/* ---- classic ---- */

static void take_classic(struct dm_otlp *o, const struct tsp_otlp_point *p, const struct explicit *e)
{
    double below = 0;

    if (!dm_otlp_float(o, p, DM_OTLP_COUNT, 0, e->count, e->start_ns) ||
        (p->has_sum && !dm_otlp_float(o, p, DM_OTLP_SUM, 0, e->sum, e->start_ns)))
        return;
    for (uint32_t begin = 0; begin < e->bound_count; begin += DM_TABLE_GROUP) {
        uint32_t     n = e->bound_count - begin < DM_TABLE_GROUP ? e->bound_count - begin : DM_TABLE_GROUP;
        struct kl_fp keys[DM_TABLE_GROUP];

        for (uint32_t i = 0; i < n; i++)
            keys[i] = dm_otlp_key(o, p, DM_OTLP_BUCKET, e->bounds[begin + i]);
        dm_table_prefetch(o->gate->table, keys, n);
        for (uint32_t i = begin; i < begin + n; i++) {
            below += e->counts[i];
            if (!dm_otlp_float(o, p, DM_OTLP_BUCKET, e->bounds[i], below, e->start_ns))
                return;
        }
    }
    if (dm_otlp_float(o, p, DM_OTLP_BUCKET, INFINITY, e->count, e->start_ns) && p->exemplar_count > 0)
        take_exemplars(o, p, e, NULL);
}

/* ---- native ---- */

static void put_native(struct dm_otlp *o, const struct tsp_otlp_point *p, const struct kl_hist *h,
                       uint64_t start_ns)
{
    struct dm_series s;

    if (!dm_otlp_find(o, p, DM_OTLP_PLAIN, 0, &s))
        return;
    dm_series_hist(&s, dm_otlp_ms(p->time_ns), dm_otlp_ms(start_ns), h);
    dm_otlp_told(o, &s);
    kl_arena_deinit(&o->gate->arena);
    if (p->exemplar_count > 0)
        take_exemplars(o, p, NULL, &s);
}

static void put_stale(struct dm_otlp *o, const struct tsp_otlp_point *p)
{
    struct kl_hist h = tsp_otlp_stale_hist();

    put_native(o, p, &h, 0);
}

static void take_custom(struct dm_otlp *o, const struct tsp_otlp_point *p, const struct explicit *e)
{
    struct kl_hist h;
    struct kl_err  err;
    double         total = 0;

    for (uint32_t i = 0; i <= e->bound_count; i++)
        total += e->counts[i];
    if (total != e->count ||
        tsp_otlp_custom_hist(e->bounds, e->counts, e->bound_count, e->count, e->sum, &o->gate->arena, &h,
                             &err) != KL_OK)
        dm_otlp_refuse(o, p, DM_BAD_HIST);
    else
        put_native(o, p, &h, e->start_ns);
}

void dm_otlp_hist(struct dm_otlp *o, const struct tsp_otlp_point *p)
{
    struct explicit e;

    if (p->absent && o->settings->custom_hists) {
        put_stale(o, p);
        return;
    }
    if (!read_buckets(o, p, &e))
        return;
    if (o->metric.temporality == TSP_OTLP_DELTA && !p->absent && !add_up(o, p, &e))
        return;
    if (o->settings->custom_hists)
        take_custom(o, p, &e);
    else
        take_classic(o, p, &e);
}

void dm_otlp_exp(struct dm_otlp *o, const struct tsp_otlp_point *p)
{
    uint64_t            start_ns = p->start_ns;
    struct tsp_otlp_exp e;
    struct dm_delta_of  of;
    struct kl_hist      h;
    struct kl_err       err;

    kl_arena_deinit(&o->gate->arena);
    if (p->absent) {
        put_stale(o, p);
        return;
    }
    if (tsp_otlp_exp_read(p, &o->gate->arena, &e, &err) != KL_OK) {
        dm_otlp_refuse(o, p, DM_BAD_HIST);
        return;
    }
    if (o->metric.temporality == TSP_OTLP_DELTA) {
        of = dm_otlp_delta(o, p);
        if (!dm_otlp_added(o, p, dm_deltas_exp(o->gate->deltas, &of, &e, &start_ns)))
            return;
    }
    if (tsp_otlp_exp_hist(&e, &o->gate->arena, &h, &err) != KL_OK)
        dm_otlp_refuse(o, p, DM_BAD_HIST);
    else
        put_native(o, p, &h, start_ns);
}
