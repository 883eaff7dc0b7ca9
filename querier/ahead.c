/*
 * Reading ahead for a query that will come again: a job of no one, on the shard's loop. It makes the query
 * as it will be asked, and fetches what its selectors need, of filesets alone, of those that it was not
 * answered by the last time. They are opened and selected from, by few workers at once, and nothing is
 * found: what is read is kept in memory and on disk as any other reading is.
 *
 * It gives up when others have to wait for their turn, at its deadline, and when it has read what it may.
 */
#include <assert.h>
#include <stdlib.h>

#include "querier/repeat_priv.h"

enum { LOOK_MS = 100, LONGEST_MS = 60 * 1000, NEEDS_MAX = 16 };

struct qr_ahead {
    struct qr_job    job;
    struct qr_shard *shard;
    struct qr_repeat *of;                              /* NULL: it was forgotten meanwhile */
    struct qr_fetch *fetches;
    size_t           count, left;
    _Atomic int64_t  room;                             /* bytes from the store that are left */
    int64_t          began_with;
    bool             busy;                             /* it made room for others */
    struct pql_failure failure;
};

bool qr_ahead_idle(const struct qr_shard *s)
{
    unsigned most = (s->q->o.concurrent_max + s->q->shard_count - 1) / s->q->shard_count;

    return s->waiting == 0 && s->active * 4 <= most;
}

void qr_ahead_forget(struct qr_shard *s, const struct qr_repeat *r)
{
    if (s->repeats.running->of == r)
        s->repeats.running->of = NULL;
}

bool qr_ahead_may(const struct qr_fetch *f)
{
    return !atomic_load_explicit(&f->job->stop, memory_order_relaxed) && atomic_load(&f->ahead->room) > 0;
}

bool qr_ahead_wants(const struct qr_fetch *f, const struct qr_part *p, const struct blk_info *info)
{
    const struct qr_repeat *r = f->ahead->of;

    for (size_t i = 0; r != NULL && i < r->known_count; i++)
        if (r->known[i].partition == p->partition) {
            const struct qr_manifest *m = r->known[i].manifest;

            return m == NULL || blk_manifest_find(&m->m, info) == m->m.fileset_count;
        }
    return r != NULL;                                  /* a partition that it was never asked for */
}

/* ---- one fileset ---- */

static int64_t from_store(const struct blk_bytes *b) { return (int64_t)(b->store + b->shared); }

void qr_ahead_select(struct qr_stored *x)
{
    const struct qr_fetch *f = x->part->f;
    struct blk_select     *s = NULL;
    struct blk_selected    got;
    int64_t                before = 0;

    x->code = blk_select_open_ahead(x->open.fileset, f->matchers, f->matcher_count, f->from_ms, f->to_ms, &s,
                                    &x->err);
    while (x->code == KL_OK && qr_ahead_may(f)) {
        int64_t now;

        x->code = blk_select_next(s, &got, &x->err);
        x->tally = blk_select_tally(s);
        now = from_store(&x->tally.data) + from_store(&x->tally.index);
        atomic_fetch_sub(&f->ahead->room, now - before);
        before = now;
    }
    blk_select_close(s);
    x->code = x->code == KL_ENOENT ? KL_OK : x->code;  /* there is no more of it */
}

void qr_ahead_read(struct qr_stored *x)
{
    struct qr_ahead   *a = x->part->f->ahead;
    struct qr_repeat  *r = a->of;
    struct qr_metrics *m = &a->job.q->m;
    uint64_t           bytes = (uint64_t)(from_store(&x->tally.data) + from_store(&x->tally.index) +
                                          from_store(&x->open.took));

    atomic_fetch_sub(&a->room, from_store(&x->open.took));
    kl_count(m->ahead_bytes, bytes);
    kl_count(m->ahead_requests, x->tally.data.requests + x->tally.index.requests + x->open.took.requests);
    if (bytes == 0)
        return;
    if (r == NULL) {
        kl_count(m->ahead_wasted, bytes);
        return;
    }
    for (size_t i = 0; i < r->taken_count; i++)        /* by another selector */
        if (r->taken[i].file == qr_repeat_file(x->info)) {
            r->taken[i].bytes += bytes;
            return;
        }
    if (r->taken == NULL)
        r->taken = kl_new(QR_AHEAD_FILES_MAX * sizeof *r->taken);
    if (r->taken_count < QR_AHEAD_FILES_MAX)
        r->taken[r->taken_count++] = (struct qr_taken){ qr_repeat_file(x->info), bytes };
    else
        r->taken[QR_AHEAD_FILES_MAX - 1].bytes += bytes;
}

/* ---- the job ---- */

static void look(struct kl_env_timer *timer)
{
    struct qr_job   *j = kl_container_of(timer, struct qr_job, tick);
    struct qr_ahead *a = kl_container_of(j, struct qr_ahead, job);

    a->busy = !qr_ahead_idle(a->shard);
    if (a->busy || a->of == NULL || atomic_load(&j->q->stopping) || qr_job_left_ms(j) == 0)
        qr_job_done(j);
    else
        j->q->env->sched->arm(j->shard->loop, &j->tick, LOOK_MS);
}

/* However it went, it is not tried again before the catalogue moves on, but where it made room. */
static void finish(struct qr_job *j)
{
    struct qr_ahead *a = kl_container_of(j, struct qr_ahead, job);
    bool             spent = atomic_load(&a->room) <= 0;

    if (a->busy || spent)
        kl_count(j->q->m.ahead_stopped, 1);
    if (a->busy && a->of != NULL)
        qr_repeat_tried(a->shard, a->of, false);
    if (a->busy || a->of == NULL)
        return;
    for (size_t i = 0; i < a->count; i++)
        for (size_t k = 0; k < a->fetches[i].part_count; k++) {
            const struct qr_part *p = a->fetches[i].parts[k];

            if (p->manifest != NULL)
                qr_repeat_know(a->of, p->partition, p->manifest);
        }
}

static void release(struct qr_job *j)
{
    struct qr_ahead *a = kl_container_of(j, struct qr_ahead, job);
    struct qr_shard *s = a->shard;

    s->repeats.room_bytes -= a->began_with - atomic_load(&a->room);
    for (size_t i = 0; i < a->count; i++)
        qr_fetch_deinit(&a->fetches[i]);
    free(a->fetches);
    pql_free(j->pql);
    s->repeats.running = NULL;
    qr_ahead_ended(s, a->busy);
    free(a);
}

static void fetched(struct qr_fetch *f)
{
    if (--f->ahead->left == 0)
        qr_job_done(&f->ahead->job);
}

static void fetch(struct qr_ahead *a)
{
    const struct pql_need *needs;
    enum pql_state         state = pql_step(a->job.pql);
    size_t                 count = state == PQL_NEED ? pql_needs(a->job.pql, &needs) : 0;

    a->count = a->left = count < NEEDS_MAX ? count : NEEDS_MAX;
    a->fetches = kl_new((a->count + 1) * sizeof *a->fetches);
    for (size_t i = 0; i < a->count; i++) {
        a->fetches[i] = qr_query_need(&a->job, &needs[i], a->of->rows_max_ms);
        a->fetches[i].probe = true;
        a->fetches[i].ahead = a;
        a->fetches[i].done = fetched;
    }
    for (size_t i = 0; i < a->count && !a->job.ended; i++)
        qr_fetch_start(&a->fetches[i]);
    if (a->count == 0)
        qr_job_done(&a->job);
}

void qr_ahead_start(struct qr_shard *s, struct qr_repeat *r)
{
    struct qr_querier *q = s->q;
    struct qr_ahead   *a;
    struct pql_params  p = r->params;

    atomic_fetch_add(&q->jobs, 1);                     /* before the look: qr_free does it the other way */
    if (atomic_load(&q->stopping)) {
        atomic_fetch_sub(&q->jobs, 1);
        return;
    }
    a = s->repeats.running = kl_new(sizeof *a);
    a->shard = s;
    a->of = r;
    qr_repeat_tried(s, r, true);
    a->began_with = s->repeats.room_bytes;
    atomic_store(&a->room, a->began_with);
    strcpy(a->job.tenant, r->tenant);
    a->job.q = q;
    a->job.shard = s;
    a->job.partial = a->job.aside = true;
    a->job.finish = finish;
    a->job.release = release;
    a->job.holds = 2;                                  /* until it ends, and until it has begun */
    a->job.budget.cap_bytes = (size_t)(q->o.query_memory_max_bytes / 2);
    a->job.submitted_ns = a->job.begun_ns = kl_env_mono_ns(q->env);
    a->job.deadline_ns = a->job.submitted_ns + INT64_C(1000000) * LONGEST_MS;
    a->job.tick.fire = look;
    q->env->sched->arm(s->loop, &a->job.tick, LOOK_MS);
    p.start_ms += r->moved_ms;
    p.end_ms += r->moved_ms;
    a->job.pql = pql_new(&p, &a->failure);
    if (a->job.pql == NULL)
        qr_job_done(&a->job);
    else
        fetch(a);
    qr_drop(&a->job);
}
