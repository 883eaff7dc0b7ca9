/*
 * Cuts: when the owner appends one to the log, and what happens when one is read from it. Only the
 * reading seals, so every replica, and every replay, seals the same samples.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { APPEND_GIVE_UP_MS = 60000, EARLY_AGAIN_MS = 10000, EARLY_LEAST_BYTES = 1 << 20 };
enum { AGE_LEAST_MS = 90 * 60 * 1000 };
enum { CUT_AHEAD_MS = 60 * 60 * 1000, CUT_PASSED_MS = 60 * 1000 };

/* ---- reading one ---- */

static void sealed(void *ctx, struct ing_series *s, struct ing_chunk *c)
{
    struct ing_part *part = ctx;

    if (part->series_count == 0 || part->series[part->series_count - 1].series != s) {
        if (part->series_count == part->series_room) {
            part->series_room = part->series_room == 0 ? 64 : part->series_room * 2;
            part->series = kl_resize(part->series, part->series_room * sizeof *part->series);
        }
        part->series[part->series_count++] = (struct ing_sealed){ s, part->chunk_count, 0 };
    }
    if (part->chunk_count == part->chunk_room) {
        part->chunk_room = part->chunk_room == 0 ? 64 : part->chunk_room * 2;
        part->chunks = kl_resize(part->chunks, part->chunk_room * sizeof *part->chunks);
    }
    part->chunks[part->chunk_count++] = c;
    part->series[part->series_count - 1].count++;
}

static struct kl_span text_copy(struct ing_part *part, struct kl_span s)
{
    void *c = kl_arena_copy(&part->texts, s.size > 0 ? s.at : "", s.size);

    return c == NULL ? kl_span("", 0) : kl_span(c, s.size);
}

/* Which of a tenant's filesets takes what lies beside samples; NULL: there is none of that kind. */
struct taking { struct ing_part *late, *window; int64_t start_ms, end_ms; };

static enum ing_fate exemplar_fate(void *ctx, const struct ing_exemplar *e)
{
    const struct taking *t = ctx;
    struct ing_part     *part = t->late != NULL && e->time_ms < t->start_ms ? t->late : t->window;

    if (e->time_ms >= t->end_ms)
        return ING_KEPT;
    if (part == NULL)
        return ING_OLD;
    part->exemplars[part->exemplar_count] = *e;
    part->exemplars[part->exemplar_count++].labels = text_copy(part, e->labels);
    return ING_GONE;
}

/* All metadata that is held goes with the younger fileset, and what was not told again since the cut's end is held
 * no more; exemplars go with the fileset of their time. */
static void take_extras(struct ing_head *h, struct taking *t)
{
    struct ing_extras *x = h->extras;
    struct ing_part   *part = t->window != NULL ? t->window : t->late;

    if (x == NULL)
        return;
    for (int k = 0; k < 2; k++)
        if ((k == 0 ? t->late : t->window) != NULL)
            (k == 0 ? t->late : t->window)->exemplars = kl_resize(NULL, (x->exemplar_count + 1) *
                                                                        sizeof *x->exemplars);
    if (part != NULL)
        part->metas = kl_resize(NULL, (x->meta_count + 1) * sizeof *part->metas);
    for (uint32_t i = 0; part != NULL && i < x->meta_count; i++)
        part->metas[part->meta_count++] =
            (struct ing_meta){ .type = x->metas[i].type, .metric = text_copy(part, x->metas[i].metric),
                               .unit = text_copy(part, x->metas[i].unit), .help = text_copy(part, x->metas[i].help) };
    ing_extras_told(h, t->end_ms, part != NULL);
    ing_extras_sift(h, exemplar_fate, t);
}

static int64_t window_floor(int64_t time_ms, int64_t window_ms)
{
    int64_t into = time_ms % window_ms;

    return time_ms - (into < 0 ? into + window_ms : into);
}

/* Name and bounds of a part's fileset. */
static void identify(struct ing_partition *p, struct ing_part *part, const struct ing_job *j,
                     int64_t start_ms, int64_t length_ms)
{
    int64_t min_ms = INT64_MAX;

    for (uint32_t i = 0; i < part->chunk_count; i++)
        if (part->chunks[i]->first_ms < min_ms)
            min_ms = part->chunks[i]->first_ms;
    if (length_ms == 0)                                /* spans many windows: named by its first */
        start_ms = min_ms < 0 ? 0 : window_floor(min_ms, p->i->o.window_ms);
    part->info = (struct blk_info){ .partition = p->number, .window_start_ms = start_ms,
                                    .window_ms = length_ms, .id = j->seq,
                                    .incarnation = p->incarnation, .first_seq = j->first_seq };
    snprintf(part->info.tenant, sizeof part->info.tenant, "%.*s", (int)part->head->tenant.size,
             (const char *)part->head->tenant.at);
}

static uint64_t first_seq_below(const struct ing_partition *p, int64_t end_ms, uint64_t seq)
{
    uint64_t first = p->first_any != 0 ? p->first_any : seq;

    for (uint32_t i = 0; i < p->first_count; i++)
        if (p->firsts[i].window_ms_start < end_ms && p->firsts[i].seq < first)
            first = p->firsts[i].seq;
    return first;
}

/* `covered`: the catalogue has it already, so what is held of it needs no filesets. */
static void seal(struct ing_partition *p, const struct tsp_cut *cut, int64_t end_ms, uint64_t seq, bool covered)
{
    struct ing_job *j = kl_new(sizeof *j);
    bool            whole = cut->window_ms == 0, extras = false;

    j->p = p;
    j->seq = seq;
    j->number = p->job_number = p->job_number % ING_CUTS_MAX + 1;
    j->end_ms = end_ms;
    j->covered = covered;
    if (covered)
        j->step = ING_LET_GO;
    else
        ing_digest_cut(p, end_ms, &j->digest);
    j->first_seq = first_seq_below(p, end_ms, seq);
    j->parts = kl_new((p->tenant_count * 2 + 1) * sizeof *j->parts);
    for (uint32_t t = 0; t < p->tenant_count; t++) {
        struct ing_head *h = p->tenants[t].head;
        struct ing_part  late = { .head = h }, window = { .head = h };
        struct taking    taking = { .start_ms = cut->window_start_ms, .end_ms = end_ms };

        for (uint32_t id = 0; id < h->made; id++) {
            struct ing_series *s = ing_series_at(h, id);

            if (!s->alive)
                continue;
            if (!whole)
                ing_series_cut(h, s, j->number, cut->window_start_ms, sealed, &late);
            ing_series_cut(h, s, j->number, end_ms, sealed, &window);
        }
        h->heavy = false;
        if (!covered && p->i->member != NULL)
            extras |= ing_extras_digest(h, j->digest.of);
        taking.late = late.chunk_count > 0 ? &late : NULL;
        taking.window = window.chunk_count > 0 ? &window : NULL;
        for (int k = 0; k < 2; k++)                    /* bounded by what the head's extras hold */
            kl_arena_init(&(k == 0 ? &late : &window)->texts, SIZE_MAX);
        take_extras(h, &taking);
        for (int k = 0; k < 2; k++) {
            struct ing_part *part = k == 0 ? &late : &window;

            if (part->chunk_count == 0)
                continue;
            ing_view_take(&part->view, &h->pairs);
            identify(p, part, j, cut->window_start_ms, k == 0 || whole ? 0 : cut->window_ms);
            j->parts[j->part_count++] = *part;
        }
    }
    ing_first_forget(p, end_ms);
    if (!covered && (j->part_count > 0 || extras))
        ing_digest_obeyed(p, seq, end_ms);
    if (j->part_count == 0) {
        if (!covered)
            ing_digest_tell(p, &j->digest);
        ing_job_free(j);
        return;
    }
    j->digest_due = !covered && p->i->member != NULL;
    ing_job_queue(j);
}

/* The rule that the log drives: what two window cuts saw neither used nor repeated goes. Cuts that
 * stand closer in the log than writers repeat their definitions (hourly) count as one. */
static void age_definitions(struct ing_partition *p)
{
    if (p->aged_ms != 0 && p->record_time_ms - p->aged_ms < AGE_LEAST_MS)
        return;
    p->aged_ms = p->record_time_ms;
    p->cut_number++;
    p->last_refs = NULL;
    for (uint32_t t = 0; t < p->tenant_count; t++)
        for (struct ing_refs **at = &p->tenants[t].refs; *at != NULL;) {
            struct ing_refs *r = *at;

            ing_refs_sweep(r, p->cut_number);
            if (r->count > 0) {
                at = &r->next;
                continue;
            }
            *at = r->next;
            ing_refs_free(r);
        }
}

/*
 * Windows end by the owner's clock, and one that is years ahead would close all of those years, for every
 * owner after it too. The log has a clock of its own, the same for all who read it: the time of the record.
 */
static bool ahead_of_the_log(struct ing_partition *p, const struct tsp_cut *cut, int64_t end_ms)
{
    if (p->record_time_ms == 0 || end_ms - p->record_time_ms <= CUT_AHEAD_MS)
        return false;
    kl_count(p->i->m.alarms, 1);
    kl_logf(p->i->o.log, KL_ERROR, "ingestor: ALARM: partition %" PRIu32 ": a cut of epoch %" PRIu64 " ends %"
            PRId64 " s after the time that the log gave its record: it is passed over; the clock of that "
            "owner, or of the log's server, is wrong", p->number, cut->epoch,
            (end_ms - p->record_time_ms) / 1000);
    p->cut_again_ns = kl_env_mono_ns(p->i->env) + INT64_C(1000000) * CUT_PASSED_MS;
    return true;
}

/* Whoever made it, it counts: who reads it late may have heard of a later owner by its catalogue. */
static bool is_catalogued(const struct ing_partition *p, uint64_t seq)
{
    uint32_t i = 0;

    while (i < p->manifest.cut_count && p->manifest.cuts[i].seq != seq)
        i++;
    return i < p->manifest.cut_count;
}

void ing_cut_read(struct ing_partition *p, const struct tsp_cut *cut, uint64_t seq)
{
    int64_t end_ms = INT64_MAX;
    bool    covered;

    if (cut->format > ING_FORMAT) {
        kl_fail(&p->cut_err, KL_ECORRUPT, "a cut into filesets of version %" PRIu32 ", which this "
                "version cannot write: upgrade before reading on", cut->format);
        return;
    }
    ing_digest_cut_read(p, seq);
    if (cut->epoch < p->epoch_seen && !is_catalogued(p, seq))  /* of an owner that was one no more */
        return;
    if (cut->epoch > p->epoch_seen)
        p->epoch_seen = cut->epoch;
    atomic_store(&p->m_epoch_seen, p->epoch_seen);
    if (cut->window_ms < 0 ||
        (cut->window_ms > 0 &&
         __builtin_add_overflow(cut->window_start_ms, cut->window_ms, &end_ms))) {
        kl_fail(&p->cut_err, KL_ECORRUPT, "a cut of a window that ends at no time");
        return;
    }
    if (cut->window_ms > 0 && p->cut_seq != 0 && end_ms <= p->cut_end_ms)
        return;                                        /* cut already */
    if (cut->window_ms > 0 && ahead_of_the_log(p, cut, end_ms))
        return;
    kl_count(p->i->m.cuts, 1);
    ing_pass_end(p);                                   /* of chunks and refs that may go now */
    if (cut->window_ms > 0) {
        age_definitions(p);
        p->cut_seq = seq;
        if (end_ms > p->cut_end_ms)
            p->cut_end_ms = end_ms;
    }
    covered = p->covered_ms >= end_ms && seq == p->record_seq;
    if (p->job_count == ING_CUTS_MAX) {
        kl_fail(&p->cut_err, KL_ELIMIT, "%d cuts wait for the store", ING_CUTS_MAX);
        return;
    }
    seal(p, cut, end_ms, seq, covered);
}

/* ---- writing one ---- */

static void append_done(struct kl_bus_append *op);

static void append_send(struct ing_append *a)
{
    ing_out(a->p->i);
    a->p->i->bus->append(a->p->i->bus, &a->op);
}

static void append_end(struct ing_append *a)
{
    struct ing_append **at = &a->p->appends;

    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    kl_buf_deinit(&a->bytes);
    free(a);
}

static void wait_remove(struct ing_partition *p, struct ing_wait *w)
{
    struct ing_wait **at = &p->waits;

    while (*at != NULL && *at != w)
        at = &(*at)->next;
    if (*at != NULL)
        *at = w->next;
}

static bool waits_has(const struct ing_partition *p, const struct ing_wait *w)
{
    for (const struct ing_wait *x = p->waits; x != NULL; x = x->next)
        if (x == w)
            return true;
    return false;
}

static void append_done(struct kl_bus_append *op)
{
    struct ing_append    *a = kl_container_of(op, struct ing_append, op);
    struct ing_partition *p = a->p;
    struct ing_wait      *w = a->wait;

    ing_in(p->i);
    if (w != NULL && !waits_has(p, w))
        w = a->wait = NULL;                            /* it was refused meanwhile */
    if (op->code == KL_OK) {
        if (w != NULL)
            w->seq = op->seq;
        append_end(a);
        ing_flush_check(p, NULL);
        return;
    }
    if ((op->code == KL_EAGAIN || op->code == KL_ETIMEOUT) && !ing_stopping(p) &&
        kl_env_mono_ns(p->i->env) < a->give_up_ns && atomic_load(&p->state) != ING_AWAY) {
        append_send(a);                                /* the bus has waited; the id makes it one */
        return;
    }
    kl_within(&op->err, "append a cut to the log of partition %" PRIu32, p->number);
    if (w != NULL) {
        wait_remove(p, w);
        ing_wait_end(w, op->code, &op->err);
    } else if (!ing_stopping(p)) {
        kl_logf(p->i->o.log, KL_WARN, "ingestor: %s", op->err.text);
    }
    append_end(a);
}

void ing_cut_append(struct ing_partition *p, const struct tsp_cut *cut, struct ing_wait *wait)
{
    struct ing_append        *a = kl_new(sizeof *a);
    struct tsp_record_writer *w = tsp_record_writer_new();
    struct kl_err             err;
    size_t                    n = 0;

    tsp_record_start(w);
    tsp_record_cut(w, cut);
    if (tsp_record_finish(w, p->i->who, ++p->appended, &a->bytes, &err) != KL_OK)
        assert(!"a cut is a small record");
    tsp_record_writer_free(w);
    a->p = p;
    a->cut = *cut;
    a->wait = wait;
    a->give_up_ns = kl_env_mono_ns(p->i->env) + INT64_C(1000000) * APPEND_GIVE_UP_MS;
    a->op = (struct kl_bus_append){ .partition = p->number, .record = kl_buf_span(&a->bytes),
                                    .loop = p->shard->loop, .done = append_done };
    for (size_t i = 0; i < 12; i++)
        n += (size_t)snprintf(a->op.id + n, sizeof a->op.id - n, "%02x", p->i->who.bytes[i]);
    snprintf(a->op.id + n, sizeof a->op.id - n, "-%" PRIx32 "-%" PRIx64, p->number, p->appended);
    a->next = p->appends;
    p->appends = a;
    append_send(a);
}

static bool heavy_series(struct ing_partition *p)
{
    bool heavy = false;

    for (uint32_t t = 0; t < p->tenant_count; t++)
        heavy |= p->tenants[t].head->heavy;
    return heavy;
}

/* The clock that windows end by. One that is behind the log's would never end them. */
static int64_t cut_clock_ms(const struct ing_partition *p)
{
    int64_t now_ms = kl_env_now_ms(p->i->env);

    return now_ms < p->record_time_ms ? p->record_time_ms : now_ms;
}

/* Window by window as the clock says; and early, everything, when the heads grow too large. */
void ing_cut_tick(struct ing_partition *p)
{
    const struct ing_options *o = &p->i->o;
    int64_t end_ms = window_floor(cut_clock_ms(p) - o->cut_delay_ms, o->window_ms);
    int64_t now_ns = kl_env_mono_ns(p->i->env), mine = p->memory_told;
    bool    heavy;
    struct tsp_cut cut = { .epoch = ing_epoch(p), .format = ING_FORMAT };

    if (cut.epoch == 0 || atomic_load(&p->state) != ING_LIVE || p->appends != NULL || p->reload ||
        p->job_count >= ING_JOBS_MAX)
        return;
    if (end_ms > p->cut_end_ms && now_ns >= p->cut_again_ns && (p->first_any != 0 ||
        (p->first_count > 0 && p->firsts[0].window_ms_start < end_ms))) {
        cut.window_start_ms = end_ms - o->window_ms;
        cut.window_ms = o->window_ms;
        ing_cut_append(p, &cut, NULL);
        return;
    }
    if (p->jobs != NULL || now_ns < p->flush_again_ns)
        return;
    heavy = heavy_series(p);
    if (!heavy && (o->memory_max_bytes == 0 || mine < EARLY_LEAST_BYTES ||
                   (uint64_t)atomic_load(&p->i->memory) <= o->memory_max_bytes ||
                   (uint64_t)mine < o->memory_max_bytes / o->partitions / 2))
        return;
    p->flush_again_ns = now_ns + INT64_C(1000000) * EARLY_AGAIN_MS;
    kl_logf(o->log, KL_INFO, "ingestor: partition %" PRIu32 " is flushed early: %s; the heads hold "
            "%" PRId64 " bytes", p->number,
            heavy ? "a series has outgrown an answer" : "the memory bound is passed",
            (int64_t)atomic_load(&p->i->memory));
    ing_cut_append(p, &cut, NULL);
}

/* ---- flushes on request ---- */

void ing_wait_end(struct ing_wait *w, enum kl_code code, const struct kl_err *err)
{
    struct ing_flush    *f = w->flush;
    struct ing_ingestor *i = w->p->i;
    enum kl_code         fine = KL_OK;

    /* The first failure is the one to tell. */
    if (code != KL_OK && __atomic_compare_exchange_n(&f->code, &fine, code, false, __ATOMIC_ACQ_REL,
                                                     __ATOMIC_ACQUIRE)) {
        f->err = *err;
        kl_within(&f->err, "partition %" PRIu32, w->p->number);
    }
    free(w);
    if (__atomic_sub_fetch(&f->left, 1, __ATOMIC_ACQ_REL) == 0)
        i->env->sched->post(f->loop, &f->task);
    ing_in(i);
}

/* On the partition's loop. */
void ing_flush_begin(struct kl_env_task *task)
{
    struct ing_wait      *w = kl_container_of(task, struct ing_wait, task);
    struct ing_partition *p = w->p;
    struct tsp_cut        cut = { .epoch = ing_epoch(p), .format = ING_FORMAT };

    if (cut.epoch == 0 || (atomic_load(&p->state) == ING_AWAY && !atomic_load(&p->wanted))) {
        ing_wait_end(w, KL_OK, NULL);                  /* not, or no longer, ours */
        return;
    }
    if (atomic_load(&p->state) != ING_LIVE || p->reload) {
        ing_wait_end(w, KL_EAGAIN, &p->words);
        return;
    }
    if (w->flush->clean) {
        ing_clean_begin(w);
        return;
    }
    w->next = p->waits;
    p->waits = w;
    ing_cut_append(p, &cut, w);
}

/* Who waits for a cut that is read and whose job, and all before it, are done? `failed`: the first
 * job's attempt failed; it goes on trying, but whoever waits for it is told. */
void ing_flush_check(struct ing_partition *p, const struct kl_err *failed)
{
    uint64_t first = UINT64_MAX;                       /* the first cut that is not in the catalogue */

    for (const struct ing_job *j = p->jobs; j != NULL; j = j->next)
        if (j->tidy == NULL && j->step < ING_CLEAN) {
            first = j->seq;
            break;
        }

    for (struct ing_wait **at = &p->waits; *at != NULL;) {
        struct ing_wait *w = *at;
        bool done = w->seq != 0 && p->applied >= w->seq && first > w->seq;

        if (!done && (failed == NULL || w->seq == 0 || first > w->seq)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        ing_wait_end(w, done ? KL_OK : failed->code, failed);
    }
}
