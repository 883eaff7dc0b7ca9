/*
 * A record of the log, applied to the head: whatever it holds, in any order, full stop. Samples that
 * the catalogue has already (a cut behind the replay's start took them) are passed over.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- which record first held samples of each window: bounds what a replay needs ---- */

static void first_note(struct ing_partition *p, int64_t time_ms)
{
    int64_t  into = time_ms % p->i->o.window_ms, start;
    uint32_t lo = 0, hi = p->first_count;

    into += into < 0 ? p->i->o.window_ms : 0;
    if (__builtin_sub_overflow(time_ms, into, &start))
        start = INT64_MIN;
    p->first_lo = start;
    if (__builtin_add_overflow(start, p->i->o.window_ms, &p->first_hi))
        p->first_hi = INT64_MAX;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (p->firsts[mid].window_ms_start < start)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < p->first_count && p->firsts[lo].window_ms_start == start) {
        if (p->record_seq < p->firsts[lo].seq)         /* it waited for its definition */
            p->firsts[lo].seq = p->record_seq;
        return;
    }
    if (p->first_count == ING_SPANS_MAX) {             /* too many to name: the oldest stands for all */
        if (p->first_any == 0 || p->record_seq < p->first_any)
            p->first_any = p->record_seq;
        p->first_lo = p->first_hi = 0;
        return;
    }
    if (p->first_count == p->first_room) {
        p->first_room = p->first_room == 0 ? 4 : p->first_room * 2;
        p->firsts = kl_resize(p->firsts, p->first_room * sizeof *p->firsts);
    }
    memmove(p->firsts + lo + 1, p->firsts + lo, (p->first_count - lo) * sizeof *p->firsts);
    p->firsts[lo] = (struct ing_first){ start, p->record_seq };
    p->first_count++;
}

static inline void note_first(struct ing_partition *p, int64_t time_ms)
{
    if (time_ms < p->first_lo || time_ms >= p->first_hi)
        first_note(p, time_ms);
}

static inline void note(struct ing_partition *p, int64_t time_ms)
{
    note_first(p, time_ms);
    ing_marks_note(&p->marks, time_ms, p->marks_seq);
}

void ing_first_forget(struct ing_partition *p, int64_t end_ms)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < p->first_count; i++) {
        int64_t window_end;

        if (__builtin_add_overflow(p->firsts[i].window_ms_start, p->i->o.window_ms, &window_end))
            window_end = INT64_MAX;
        if (window_end > end_ms)
            p->firsts[kept++] = p->firsts[i];
    }
    p->first_count = kept;
    p->first_lo = p->first_hi = 0;
    if (end_ms == INT64_MAX)
        p->first_any = 0;
}

/* ---- tenants ---- */

static uint32_t tenant_slot(const struct ing_partition *p, struct kl_span tenant)
{
    uint32_t at = (uint32_t)kl_hash64(tenant.at, tenant.size) & p->tenant_mask;

    while (p->tenant_slots[at] != 0 &&
           !kl_span_eq(p->tenants[p->tenant_slots[at] - 1].head->tenant, tenant))
        at = (at + 1) & p->tenant_mask;
    return at;
}

static void tenants_grow(struct ing_partition *p)
{
    p->tenant_room = p->tenant_room == 0 ? 4 : p->tenant_room * 2;
    p->tenants = kl_resize(p->tenants, p->tenant_room * sizeof *p->tenants);
    free(p->tenant_slots);
    p->tenant_slots = kl_new(p->tenant_room * 2 * sizeof *p->tenant_slots);
    p->tenant_mask = p->tenant_room * 2 - 1;
    for (uint32_t i = 0; i < p->tenant_count; i++)
        p->tenant_slots[tenant_slot(p, p->tenants[i].head->tenant)] = i + 1;
}

struct ing_tenant *ing_tenant(struct ing_partition *p, struct kl_span tenant, bool make)
{
    uint32_t at;

    if (p->last_tenant < p->tenant_count &&
        kl_span_eq(p->tenants[p->last_tenant].head->tenant, tenant))
        return &p->tenants[p->last_tenant];
    if (p->tenant_room > 0) {
        at = tenant_slot(p, tenant);
        if (p->tenant_slots[at] != 0) {
            p->last_tenant = p->tenant_slots[at] - 1;
            p->last_refs = NULL;
            return &p->tenants[p->last_tenant];
        }
    }
    if (!make)
        return NULL;
    if (p->tenant_count == p->tenant_room)
        tenants_grow(p);
    at = tenant_slot(p, tenant);
    p->tenants[p->tenant_count] =
        (struct ing_tenant){ .head = ing_head_new(tenant, p->i->o.window_ms, &p->files) };
    p->tenant_slots[at] = ++p->tenant_count;
    p->last_tenant = p->tenant_count - 1;
    p->last_refs = NULL;
    return &p->tenants[p->last_tenant];
}

/* Of the writer of this record, in `tenant`. */
static struct ing_refs *refs_of(struct ing_partition *p, struct kl_span tenant)
{
    struct ing_tenant *t = ing_tenant(p, tenant, true);

    if (p->last_refs != NULL &&
        memcmp(&p->last_refs->who, &p->record.who, sizeof p->record.who) == 0)
        return p->last_refs;
    for (struct ing_refs *r = t->refs; r != NULL; r = r->next)
        if (memcmp(&r->who, &p->record.who, sizeof r->who) == 0)
            return p->last_refs = r;
    p->last_refs = ing_refs_new(p->record.who, t->head, p->record_seq);
    p->last_refs->next = t->refs;
    t->refs = p->last_refs;
    return p->last_refs;
}

/* ---- samples of refs without a definition: kept as bytes, in order ---- */

enum { KEPT_FLOAT = 1, KEPT_HIST, KEPT_START, KEPT_EXEMPLAR, KEPT_DELETION };

bool ing_kept_check(struct kl_span samples)
{
    struct kl_cur   c = kl_cur(samples.at, samples.size), one;
    struct kl_arena arena;
    struct kl_hist  h;
    struct kl_err   err;
    struct kl_span  bytes;
    bool            fine = samples.size > 0;

    kl_arena_init(&arena, ING_ORPHAN_BYTES_MAX);
    while (fine && kl_cur_left(&c) > 0) {
        uint8_t kind = kl_cur_8(&c);

        if (kind == KEPT_DELETION) {
            struct blk_deletion *d = ing_deletion_get(&c);

            fine = d != NULL;
            blk_deletion_unref(d);
            continue;
        }
        kl_cur_64(&c);
        if (kind == KEPT_FLOAT || kind == KEPT_START) {
            kl_cur_64(&c);
        } else if (kind == KEPT_HIST) {
            bytes = kl_cur_span(&c);
            one = kl_cur(bytes.at, bytes.size);
            fine = tsp_hist_get(&one, &arena, &h, &err) == KL_OK && kl_cur_left(&one) == 0;
        } else if (kind == KEPT_EXEMPLAR) {
            kl_cur_64(&c);
            bytes = kl_cur_span(&c);
            fine = kl_labels_check((struct kl_labels){ bytes.at, bytes.size }, &err) == KL_OK;
        } else {
            fine = false;
        }
        fine = fine && !c.bad;
    }
    kl_arena_deinit(&arena);
    return fine;
}

static struct kl_buf *keep(struct ing_partition *p, struct ing_refs *r, uint64_t ref)
{
    if (p->record_seq > p->replay_end)                 /* while replaying it is to be expected */
        kl_count(p->i->m.unknown_refs, 1);
    return &ing_refs_orphan(r, ref, p->record_seq, p->cut_number)->samples;
}

static void kept(struct ing_partition *p, struct ing_refs *r, const struct kl_buf *b, size_t before)
{
    p->orphan_bytes += b->size - before;
    r->head->memory.bytes[ING_MEM_OTHER] += (int64_t)(b->size - before);
}

/* A deletion came, and what waits for its definition may be meant: it stands among the samples. */
void ing_orphans_erase(struct ing_partition *p, struct ing_refs *r, const struct blk_deletion *d)
{
    for (uint32_t i = 0; i < r->orphan_count; i++) {
        struct kl_buf *b = &r->orphans[i].samples;
        size_t         before = b->size;

        kl_buf_add8(b, KEPT_DELETION);
        ing_deletion_put(d, b);
        kept(p, r, b, before);
    }
}

/* The deletions that stand behind a sample, of those that mean the series: their spans, and where
 * each stands. */
struct erased { struct blk_hidden span; size_t at; };

static struct erased *erased_of(const struct ing_orphan *o, struct kl_labels labels, uint32_t *count)
{
    struct kl_cur  c = kl_cur(o->samples.at, o->samples.size);
    struct erased *list = NULL;

    *count = 0;
    while (kl_cur_left(&c) > 0) {
        uint8_t              kind = kl_cur_8(&c);
        struct blk_deletion *d;

        if (kind != KEPT_DELETION) {
            kl_cur_64(&c);
            if (kind != KEPT_HIST)
                kl_cur_64(&c);
            if (kind == KEPT_HIST || kind == KEPT_EXEMPLAR)
                kl_cur_span(&c);
            continue;
        }
        d = ing_deletion_get(&c);
        assert(d != NULL);
        if (kl_matchers_test(d->matchers, d->matcher_count, labels)) {
            list = kl_resize(list, (*count + 1) * sizeof *list);
            list[(*count)++] = (struct erased){ { d->from_ms, d->to_ms },
                                                o->samples.size - kl_cur_left(&c) };
        }
        blk_deletion_unref(d);
    }
    return list;
}

static bool is_erased(const struct erased *list, uint32_t count, size_t at, int64_t time_ms)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i].at > at && blk_hidden_any(&list[i].span, 1, time_ms, time_ms))
            return true;
    return false;
}

static void exemplar_add(struct ing_partition *p, struct ing_head *h, const struct ing_exemplar *e)
{
    if (!ing_extras_exemplar(h, e))
        kl_count(p->i->m.extras_dropped, 1);
}

static void join(struct ing_partition *p, struct ing_refs *r, struct ing_orphan *o,
                 struct ing_series *s, struct kl_labels labels)
{
    struct kl_cur  c = kl_cur(o->samples.at, o->samples.size);
    struct kl_buf  samples = o->samples;
    uint64_t       now = p->record_seq;
    uint32_t       erased_count;
    struct erased *erased = erased_of(o, labels, &erased_count);

    p->record_seq = o->first_seq;                      /* from there on a replay needs the log */
    p->first_lo = p->first_hi = 0;
    while (kl_cur_left(&c) > 0) {
        uint8_t kind = kl_cur_8(&c);
        int64_t time_ms;
        bool    gone;

        if (kind == KEPT_DELETION) {
            blk_deletion_unref(ing_deletion_get(&c));
            continue;
        }
        time_ms = (int64_t)kl_cur_64(&c);
        ing_digest_doubt(p, time_ms);
        gone = is_erased(erased, erased_count, samples.size - kl_cur_left(&c), time_ms);
        if (kind == KEPT_FLOAT) {
            double value = kl_cur_f64(&c);

            if (!gone)
                ing_series_float(r->head, s, time_ms, value);
        } else if (kind == KEPT_HIST) {
            struct kl_span hist = kl_cur_span(&c);

            if (!gone)
                ing_series_hist(r->head, s, time_ms, hist);
        } else if (kind == KEPT_START) {
            int64_t start_ms = (int64_t)kl_cur_64(&c);

            if (!gone)
                ing_series_start(r->head, s, time_ms, start_ms);
        } else {
            double         value = kl_cur_f64(&c);
            struct ing_exemplar e = { .fp = s->fp, .time_ms = time_ms, .value = value, .labels = kl_cur_span(&c) };

            if (!gone)
                exemplar_add(p, r->head, &e);
        }
        note(p, time_ms);
    }
    assert(!c.bad);
    free(erased);
    p->record_seq = now;
    p->first_lo = p->first_hi = 0;
    p->orphan_bytes -= samples.size;
    r->head->memory.bytes[ING_MEM_OTHER] -= (int64_t)samples.size;
    kl_buf_deinit(&samples);
    /* The last orphan takes the place that is free now. */
    *o = r->orphans[--r->orphan_count];
    if (o != &r->orphans[r->orphan_count])
        ing_refs_set(r, o->ref, ING_ORPHAN_BIT | (uint32_t)(o - r->orphans), o->first_seq,
                     p->cut_number);
}

/* ---- the sink ---- */

static void drain(struct ing_partition *p);

/* What is not a single float comes after those before it. */
static struct ing_refs *drained(struct ing_partition *p, struct kl_span tenant)
{
    drain(p);
    return refs_of(p, tenant);
}

static void define(void *ctx, struct kl_span tenant, uint64_t ref, struct kl_fp fp,
                   struct kl_labels labels)
{
    struct ing_partition *p = ctx;
    struct ing_refs      *r = drained(p, tenant);
    struct ing_series    *s = ing_head_series(r->head, fp, labels);
    uint32_t              known = ing_refs_find(r, ref, p->cut_number);

    if (known != s->id) {
        s->definitions++;
        if (known != ING_NONE && (known & ING_ORPHAN_BIT) == 0)
            ing_series_at(r->head, known)->definitions--;
    }
    ing_refs_set(r, ref, s->id, p->record_seq, p->cut_number);
    if (known != ING_NONE && (known & ING_ORPHAN_BIT) != 0)
        join(p, r, &r->orphans[known & ~ING_ORPHAN_BIT], s, labels);
}

/* Perhaps they are repeats, and a cut between took the first ones. */
static void doubt_repeats(struct ing_partition *p, const int64_t *times_ms, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (times_ms[i] < p->digest.taken_ms && times_ms[i] >= p->covered_ms)
            ing_digest_doubt(p, times_ms[i]);
}

static void apply_run(struct ing_partition *p, struct ing_refs *r, uint64_t ref,
                      const int64_t *times_ms, const double *values, size_t count)
{
    uint32_t           id = ing_refs_find(r, ref, p->cut_number);
    struct ing_series *s;

    if ((id & ING_ORPHAN_BIT) != 0) {                  /* ING_NONE has the bit, too */
        struct kl_buf *b = keep(p, r, ref);
        size_t         before = b->size;

        for (size_t i = 0; i < count; i++) {
            ing_digest_doubt(p, times_ms[i]);
            kl_buf_add8(b, KEPT_FLOAT);
            kl_buf_add64(b, (uint64_t)times_ms[i]);
            kl_buf_addf64(b, values[i]);
        }
        kept(p, r, b, before);
        return;
    }
    s = ing_series_at(r->head, id);
    if (p->digest.taken_ms != INT64_MIN)
        doubt_repeats(p, times_ms, count);
    for (size_t i = 0; i < count; i++) {
        if (times_ms[i] < p->covered_ms) {             /* written it was, in that record, all the same */
            ing_marks_note(&p->marks, times_ms[i], p->marks_seq);
            continue;
        }
        note(p, times_ms[i]);
        p->late_writes += times_ms[i] < p->cut_end_ms;
        ing_series_float(r->head, s, times_ms[i], values[i]);
    }
}

/* Short runs, each of another series, cost a cache miss for the ref, for the series and for its
 * tail: asked for together they overlap. In the order they came, and before anything else is. */
static void drain(struct ing_partition *p)
{
    struct ing_series *series[ING_BATCH];
    uint32_t           count = p->batch_count;

    p->batch_count = p->batch_samples = 0;
    for (uint32_t i = 0; i < count; i++)
        ing_refs_prefetch(p->batch[i].refs, p->batch[i].ref);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = ing_refs_find(p->batch[i].refs, p->batch[i].ref, p->cut_number);

        series[i] = (id & ING_ORPHAN_BIT) != 0 ? NULL
                                               : ing_series_at(p->batch[i].refs->head, id);
        if (series[i] != NULL) {
            __builtin_prefetch(series[i], 1);
            __builtin_prefetch((char *)series[i] + 64, 1);
        }
    }
    for (uint32_t i = 0; i < count; i++)
        if (series[i] != NULL && series[i]->tail.bytes != NULL)
            __builtin_prefetch(series[i]->tail.bytes + series[i]->tail.size, 1);
    for (uint32_t i = 0; i < count; i++)
        apply_run(p, p->batch[i].refs, p->batch[i].ref, p->batch_times + p->batch[i].from,
                  p->batch_values + p->batch[i].from, p->batch[i].count);
}

static void floats(void *ctx, struct kl_span tenant, uint64_t ref, const int64_t *times_ms,
                   const double *values, size_t count)
{
    struct ing_partition *p = ctx;
    struct ing_refs      *r = refs_of(p, tenant);

    p->sample_count += count;
    if (count <= ING_BATCH_RUN) {
        p->batch[p->batch_count].refs = r;
        p->batch[p->batch_count].ref = ref;
        p->batch[p->batch_count].from = p->batch_samples;
        p->batch[p->batch_count].count = (uint32_t)count;
        for (size_t i = 0; i < count; i++) {
            p->batch_times[p->batch_samples + i] = times_ms[i];
            p->batch_values[p->batch_samples + i] = values[i];
        }
        p->batch_samples += (uint32_t)count;
        if (++p->batch_count == ING_BATCH)
            drain(p);
        return;
    }
    drain(p);
    apply_run(p, r, ref, times_ms, values, count);
}

static void hist(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms,
                 const struct kl_hist *h)
{
    struct ing_partition *p = ctx;
    struct ing_refs      *r = drained(p, tenant);
    uint32_t              id = ing_refs_find(r, ref, p->cut_number);

    p->sample_count++;
    kl_buf_reset(&p->scratch);
    tsp_hist_put(&p->scratch, h);
    if ((id & ING_ORPHAN_BIT) != 0) {
        struct kl_buf *b = keep(p, r, ref);
        size_t         before = b->size;

        ing_digest_doubt(p, time_ms);
        kl_buf_add8(b, KEPT_HIST);
        kl_buf_add64(b, (uint64_t)time_ms);
        kl_buf_addspan(b, kl_buf_span(&p->scratch));
        kept(p, r, b, before);
    } else if (time_ms >= p->covered_ms) {
        note(p, time_ms);
        doubt_repeats(p, &time_ms, 1);
        p->late_writes += time_ms < p->cut_end_ms;
        ing_series_hist(r->head, ing_series_at(r->head, id), time_ms, kl_buf_span(&p->scratch));
    } else {
        ing_marks_note(&p->marks, time_ms, p->marks_seq);
    }
}

static void start_time(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms,
                       int64_t start_ms)
{
    struct ing_partition *p = ctx;
    struct ing_refs      *r = drained(p, tenant);
    uint32_t              id = ing_refs_find(r, ref, p->cut_number);

    if ((id & ING_ORPHAN_BIT) != 0) {
        struct kl_buf *b = keep(p, r, ref);
        size_t         before = b->size;

        ing_digest_doubt(p, time_ms);
        kl_buf_add8(b, KEPT_START);
        kl_buf_add64(b, (uint64_t)time_ms);
        kl_buf_add64(b, (uint64_t)start_ms);
        kept(p, r, b, before);
    } else if (time_ms >= p->covered_ms) {
        ing_series_start(r->head, ing_series_at(r->head, id), time_ms, start_ms);
    } else {
        ing_marks_note(&p->marks, time_ms, p->marks_seq);
    }
}

static void exemplar(void *ctx, struct kl_span tenant, uint64_t ref, int64_t time_ms, double value,
                     struct kl_labels labels)
{
    struct ing_partition *p = ctx;
    struct ing_refs      *r = drained(p, tenant);
    uint32_t              id = ing_refs_find(r, ref, p->cut_number);
    struct kl_span        bytes = kl_span(labels.at, labels.size);

    if ((id & ING_ORPHAN_BIT) != 0) {
        struct kl_buf *b = keep(p, r, ref);
        size_t         before = b->size;

        ing_digest_doubt(p, time_ms);
        kl_buf_add8(b, KEPT_EXEMPLAR);
        kl_buf_add64(b, (uint64_t)time_ms);
        kl_buf_addf64(b, value);
        kl_buf_addspan(b, bytes);
        kept(p, r, b, before);
    } else if (time_ms >= p->covered_ms) {
        struct ing_exemplar e = { .fp = ing_series_at(r->head, id)->fp, .time_ms = time_ms,
                                  .value = value, .labels = bytes };

        note(p, time_ms);
        doubt_repeats(p, &time_ms, 1);
        exemplar_add(p, r->head, &e);
    }
}

static void metadata(void *ctx, struct kl_span tenant, struct kl_span metric, uint8_t type,
                     struct kl_span unit, struct kl_span help)
{
    struct ing_partition *p = ctx;
    struct ing_meta       m = { .type = type, .old = p->record_time_ms < p->covered_ms, .told_ms = p->record_time_ms,
                                .metric = metric, .unit = unit, .help = help };

    if (!m.old) {
        note_first(p, m.told_ms);                      /* a replay reads it again until a cut has taken it */
        if (p->record_time_ms < p->digest.repeats_until_ms)
            ing_digest_doubt(p, m.told_ms);            /* of a repeat, what was told between counts */
    }
    if (!ing_extras_meta(ing_tenant(p, tenant, true)->head, &m))
        kl_count(p->i->m.extras_dropped, 1);
}

static void deletion(void *ctx, struct kl_span tenant, const struct tsp_deletion *d)
{
    struct ing_partition *p = ctx;

    drain(p);
    ing_deletion_read(p, tenant, d);
}

static void cut(void *ctx, const struct tsp_cut *c)
{
    struct ing_partition *p = ctx;

    drain(p);
    ing_cut_read(p, c, p->record_seq);
}

enum kl_code ing_apply(struct ing_partition *p, const struct kl_bus_record *rec, struct kl_err *err)
{
    struct tsp_record_sink sink = { .ctx = p, .define = define, .floats = floats, .hist = hist,
                                    .start_time = start_time, .exemplar = exemplar,
                                    .metadata = metadata, .deletion = deletion, .cut = cut };

    if (p->orphan_bytes > ING_ORPHAN_BYTES_MAX)
        return kl_fail(err, KL_ELIMIT, "more than %d MiB of samples wait for definitions that never "
                       "came", ING_ORPHAN_BYTES_MAX >> 20);
    p->record_seq = p->marks_seq = rec->seq;
    p->marks.from_ms = p->marks.to_ms = 0;
    p->record_time_ms = rec->time_ms;
    ing_digest_begin_record(p);
    ing_log_time(p->i, rec->time_ms);
    if (p->again_end != 0 && rec->seq > p->again_end) {
        p->again_end = 0;
        for (uint32_t t = 0; t < p->tenant_count; t++)
            p->tenants[t].head->again = false;
    }
    p->covered_ms = INT64_MIN;
    for (uint32_t i = 0; i < p->manifest.cut_count; i++)
        if (rec->seq <= p->manifest.cuts[i].seq && p->manifest.cuts[i].end_ms > p->covered_ms)
            p->covered_ms = p->manifest.cuts[i].end_ms;
    p->last_refs = NULL;
    p->batch_count = p->batch_samples = 0;
    if (tsp_record_read(p->reads, rec->bytes, &sink, &p->record, err) != KL_OK)
        return kl_within(err, "record %" PRIu64, rec->seq);
    drain(p);
    if (p->cut_err.code != KL_OK) {
        *err = p->cut_err;
        return kl_within(err, "record %" PRIu64, rec->seq);
    }
    ing_deletions_queue(p);
    p->applied = rec->seq;
    p->applied_hash = kl_hash64(rec->bytes.at, rec->bytes.size);
    ing_digest_record(p, rec->seq);
    return KL_OK;
}
