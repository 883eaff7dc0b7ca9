#include "doorman/deltas.h"

#include <stdlib.h>
#include <string.h>

#include "libkoal/base/mem.h"

enum { ENTRIES_FIRST = 64, HAND_STEPS_MAX = 64 };

/* Sums of numbers need no arrays; of histograms `more` holds them: counts, by kind as below. */
struct entry {
    struct kl_fp key;
    uint64_t start_ns;                                 /* of the sum */
    uint64_t last_start_ns, time_ns;                   /* of the last delta */
    double   sum, count;
    void    *more;
    uint32_t more_bytes, used_s;
};
struct hist { uint64_t bounds; uint32_t count; double counts[]; };         /* bounds: their hash */
struct exp {
    int32_t scale, pos_offset, neg_offset;
    uint32_t pos_count, neg_count;
    double  zero_threshold, zero_count;
    double  counts[];                                  /* positive, then negative */
};
struct dm_deltas {
    size_t    bytes_max, bytes;
    uint32_t *slots;                                   /* index + 1; 0: empty; twice as many as room */
    struct entry *all;
    uint32_t  mask, count, room, hand;
};

static size_t table_bytes(uint32_t room)
{
    return (size_t)room * (sizeof(struct entry) + 2 * sizeof(uint32_t));
}

static uint64_t begin_of(const struct dm_delta_of *of)
{
    return of->start_ns != 0 ? of->start_ns : of->time_ns;
}

static void place(struct dm_deltas *d, uint32_t index)
{
    uint32_t i = (uint32_t)d->all[index].key.lo & d->mask;

    while (d->slots[i] != 0)
        i = (i + 1) & d->mask;
    d->slots[i] = index + 1;
}

static void resize(struct dm_deltas *d, uint32_t room)
{
    d->bytes += table_bytes(room) - table_bytes(d->room);
    d->room = room;
    d->mask = 2 * room - 1;
    d->all = kl_resize(d->all, (size_t)room * sizeof *d->all);
    free(d->slots);
    d->slots = kl_new(2 * (size_t)room * sizeof *d->slots);
    for (uint32_t i = 0; i < d->count; i++)
        place(d, i);
}

struct dm_deltas *dm_deltas_new(size_t bytes_max)
{
    struct dm_deltas *d = kl_new(sizeof *d);

    d->bytes_max = bytes_max;
    resize(d, ENTRIES_FIRST);
    return d;
}

void dm_deltas_free(struct dm_deltas *d)
{
    if (d == NULL)
        return;
    for (uint32_t i = 0; i < d->count; i++)
        free(d->all[i].more);
    free(d->all);
    free(d->slots);
    free(d);
}

size_t dm_deltas_count(const struct dm_deltas *d) { return d->count; }
size_t dm_deltas_bytes(const struct dm_deltas *d) { return d->bytes; }

static struct entry *find(struct dm_deltas *d, struct kl_fp key)
{
    for (uint32_t i = (uint32_t)key.lo & d->mask; d->slots[i] != 0; i = (i + 1) & d->mask)
        if (kl_fp_cmp(d->all[d->slots[i] - 1].key, key) == 0)
            return &d->all[d->slots[i] - 1];
    return NULL;
}

static uint32_t slot_of(const struct dm_deltas *d, uint32_t index)
{
    uint32_t i = (uint32_t)d->all[index].key.lo & d->mask;

    while (d->slots[i] != index + 1)
        i = (i + 1) & d->mask;
    return i;
}

/* Empties its slot, moves back those that would no longer be found, and the last entry into its place. */
static void drop(struct dm_deltas *d, uint32_t index)
{
    uint32_t hole = slot_of(d, index);

    for (uint32_t i = (hole + 1) & d->mask; d->slots[i] != 0; i = (i + 1) & d->mask) {
        uint32_t home = (uint32_t)d->all[d->slots[i] - 1].key.lo & d->mask;
        if (((i - home) & d->mask) >= ((i - hole) & d->mask)) {
            d->slots[hole] = d->slots[i];
            hole = i;
        }
    }
    d->slots[hole] = 0;
    d->bytes -= d->all[index].more_bytes;
    free(d->all[index].more);
    if (index != --d->count) {
        d->slots[slot_of(d, d->count)] = index + 1;
        d->all[index] = d->all[d->count];
    }
}

/* Room for `bytes` more: idle series go, a few at each call, so that no single call is long. Entries move. */
static bool make_room(struct dm_deltas *d, size_t bytes, uint32_t now_s)
{
    for (int i = 0; i < HAND_STEPS_MAX && d->bytes + bytes > d->bytes_max && d->count > 0; i++) {
        if (d->hand >= d->count)
            d->hand = 0;
        if (now_s - d->all[d->hand].used_s > DM_DELTA_IDLE_S)
            drop(d, d->hand);
        else
            d->hand++;
    }
    return d->bytes + bytes <= d->bytes_max;
}

static struct entry *add(struct dm_deltas *d, const struct dm_delta_of *of, size_t more)
{
    uint32_t room = d->room;
    size_t   table = 0;

    if (d->count == room)
        table = table_bytes(2 * room) - table_bytes(room);
    if (!make_room(d, table + more, of->now_s)) {
        /* What went may have left a place, if not the bytes for a larger table. */
        if (d->count == room || d->bytes + more > d->bytes_max)
            return NULL;
    }
    if (d->count == room)
        resize(d, 2 * room);
    d->all[d->count] = (struct entry){ .key = of->key, .start_ns = begin_of(of), .used_s = of->now_s };
    place(d, d->count);
    return &d->all[d->count++];
}

/* ADDED: it is newer. */
static enum dm_delta judge(struct entry *e, const struct dm_delta_of *of)
{
    e->used_s = of->now_s;
    if (of->time_ns > e->time_ns)
        return DM_DELTA_ADDED;
    return of->time_ns == e->time_ns && of->start_ns == e->last_start_ns ? DM_DELTA_AGAIN : DM_DELTA_OLD;
}

static void told(struct entry *e, const struct dm_delta_of *of)
{
    e->used_s = of->now_s;
    e->last_start_ns = of->start_ns;
    e->time_ns = of->time_ns;
}

static void restart(struct entry *e, const struct dm_delta_of *of)
{
    e->start_ns = begin_of(of);
    e->sum = e->count = 0;
}

enum dm_delta dm_deltas_number(struct dm_deltas *d, const struct dm_delta_of *of, double *value,
                               uint64_t *start_ns)
{
    struct entry *e = find(d, of->key);
    enum dm_delta verdict = DM_DELTA_ADDED;

    if (e != NULL)
        verdict = judge(e, of);
    else if ((e = add(d, of, 0)) == NULL)
        return DM_DELTA_NO_ROOM;
    if (verdict == DM_DELTA_OLD)
        return verdict;
    if (verdict == DM_DELTA_ADDED) {
        e->sum += *value;
        told(e, of);
    }
    *value = e->sum;
    *start_ns = e->start_ns;
    return verdict;
}

/* ---- explicit buckets ---- */

enum dm_delta dm_deltas_hist(struct dm_deltas *d, const struct dm_delta_of *of, const double *bounds,
                             uint32_t bound_count, double *counts, double *count, double *sum,
                             uint64_t *start_ns)
{
    uint64_t      hash = kl_hash64(bounds, bound_count * sizeof *bounds);
    size_t        bytes = sizeof(struct hist) + (bound_count + 1) * sizeof(double);
    struct entry *e = find(d, of->key);
    enum dm_delta verdict = DM_DELTA_ADDED;
    struct hist  *h = e != NULL ? e->more : NULL;

    if (e != NULL && (verdict = judge(e, of)) == DM_DELTA_OLD)
        return verdict;
    if (e != NULL && (h->bounds != hash || h->count != bound_count + 1)) {
        drop(d, (uint32_t)(e - d->all));
        e = NULL;
        verdict = DM_DELTA_ADDED;
    }
    if (e == NULL) {
        if ((e = add(d, of, bytes)) == NULL)
            return DM_DELTA_NO_ROOM;
        h = kl_new(bytes);
        h->bounds = hash;
        h->count = bound_count + 1;
        e->more = h;
        e->more_bytes = (uint32_t)bytes;
        d->bytes += bytes;
    }
    if (verdict == DM_DELTA_ADDED) {
        for (uint32_t i = 0; i < h->count; i++)
            h->counts[i] += counts[i];
        e->count += *count;
        e->sum += *sum;
        told(e, of);
    }
    memcpy(counts, h->counts, h->count * sizeof *counts);
    *count = e->count;
    *sum = e->sum;
    *start_ns = e->start_ns;
    return verdict;
}

/* ---- exponential ones ---- */

/* How many buckets a side has when both are in one. */
static uint64_t width(const struct tsp_otlp_side *a, const struct tsp_otlp_side *b)
{
    int64_t from, to;

    if (a->count == 0 || b->count == 0)
        return (uint64_t)a->count + b->count;
    from = a->offset < b->offset ? a->offset : b->offset;
    to = (int64_t)a->offset + a->count;
    if ((int64_t)b->offset + b->count > to)
        to = (int64_t)b->offset + b->count;
    return (uint64_t)(to - from);
}

/* Both sides of a and b into `counts` (zeroed, wide enough), and a's description of it. */
static void merge(struct tsp_otlp_side *a, const struct tsp_otlp_side *b, double *counts)
{
    int32_t  from = a->count == 0 ? b->offset : b->count == 0 ? a->offset
                    : a->offset < b->offset ? a->offset : b->offset;
    uint32_t n = (uint32_t)width(a, b);

    for (uint32_t i = 0; i < a->count; i++)
        counts[(int64_t)a->offset - from + i] += a->counts[i];
    for (uint32_t i = 0; i < b->count; i++)
        counts[(int64_t)b->offset - from + i] += b->counts[i];
    *a = (struct tsp_otlp_side){ .offset = from, .count = n, .counts = counts };
}

static struct tsp_otlp_exp view(const struct entry *e)
{
    struct exp *x = e->more;

    return (struct tsp_otlp_exp){
        .scale = x->scale, .zero_threshold = x->zero_threshold, .zero_count = x->zero_count,
        .count = e->count, .sum = e->sum,
        .pos = { x->pos_offset, x->pos_count, x->counts },
        .neg = { x->neg_offset, x->neg_count, x->counts + x->pos_count },
    };
}

/* The sum of both as the arrays of *entry, which is in use just now and may move. */
static bool keep(struct dm_deltas *d, struct entry **entry, struct tsp_otlp_exp *sum,
                 const struct tsp_otlp_exp *x, uint32_t now_s)
{
    struct kl_fp  key = (*entry)->key;
    uint64_t      n = width(&sum->pos, &x->pos) + width(&sum->neg, &x->neg);
    size_t        bytes = sizeof(struct exp) + (size_t)n * sizeof(double), had = (*entry)->more_bytes;
    bool          room = bytes <= had || make_room(d, bytes - had, now_s);
    struct entry *e = find(d, key);
    struct exp   *into;

    *entry = e;
    if (!room)
        return false;
    into = kl_new(bytes);
    merge(&sum->pos, &x->pos, into->counts);
    merge(&sum->neg, &x->neg, into->counts + sum->pos.count);
    into->scale = sum->scale;
    into->zero_threshold = x->zero_threshold;
    into->zero_count = sum->zero_count + x->zero_count;
    into->pos_offset = sum->pos.offset;
    into->pos_count = sum->pos.count;
    into->neg_offset = sum->neg.offset;
    into->neg_count = sum->neg.count;
    free(e->more);
    d->bytes += bytes;
    d->bytes -= e->more_bytes;
    e->more = into;
    e->more_bytes = (uint32_t)bytes;
    e->count += x->count;
    e->sum += x->sum;
    return true;
}

enum dm_delta dm_deltas_exp(struct dm_deltas *d, const struct dm_delta_of *of, struct tsp_otlp_exp *x,
                            uint64_t *start_ns)
{
    struct tsp_otlp_exp sum = { .scale = x->scale, .zero_threshold = x->zero_threshold };
    struct entry *e = find(d, of->key);
    enum dm_delta verdict = DM_DELTA_ADDED;
    bool          fresh = e == NULL, fits;
    int32_t       scale;

    if (fresh) {
        if ((e = add(d, of, sizeof(struct exp) + (x->pos.count + x->neg.count) * sizeof(double))) == NULL)
            return DM_DELTA_NO_ROOM;
    } else if ((verdict = judge(e, of)) == DM_DELTA_OLD) {
        return verdict;
    } else if (verdict == DM_DELTA_ADDED) {
        sum = view(e);
        if (sum.zero_threshold != x->zero_threshold) {
            restart(e, of);
            sum = (struct tsp_otlp_exp){ .scale = x->scale, .zero_threshold = x->zero_threshold };
        }
    }
    if (verdict == DM_DELTA_ADDED) {
        scale = sum.scale < x->scale ? sum.scale : x->scale;
        for (;; scale--) {
            tsp_otlp_exp_rescale(&sum, scale);
            tsp_otlp_exp_rescale(x, scale);
            fits = width(&sum.pos, &x->pos) <= DM_DELTA_BUCKETS_MAX &&
                   width(&sum.neg, &x->neg) <= DM_DELTA_BUCKETS_MAX;
            if (fits || scale == TSP_OTLP_SCALE_MIN)
                break;
        }
        /* At the coarsest scale all doubles have some 140 buckets; more is an index of none. */
        if (!fits || !keep(d, &e, &sum, x, of->now_s)) {
            drop(d, (uint32_t)(e - d->all));
            return DM_DELTA_NO_ROOM;
        }
        told(e, of);
    }
    *x = view(e);
    *start_ns = e->start_ns;
    return verdict;
}
