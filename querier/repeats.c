/*
 * Range queries that come again: of one tenant, text, step and length, from a start that is a multiple of
 * the step later. The last QR_REPEATS_MAX of a shard are remembered, by when they were last asked. One
 * that has moved on, and that comes as often as it should, is read ahead for when the catalogue has moved
 * on past what it was answered by: a moment after the change, one query at a time, while few others run,
 * and within `querier.prefetch_max` of bytes from the store, which fill up again in ten minutes.
 *
 * What was read ahead for a query is used or wasted when it comes the next time: by whether those
 * filesets were among those that it wanted. Wasted, too, when it is forgotten before.
 */
#include <assert.h>
#include <stdlib.h>

#include "querier/repeat_priv.h"

enum { BEGIN_MS = 100, BUSY_MS = 500, FILLS_IN_MS = 600 * 1000 };
static const int64_t LATE_NS = INT64_C(60) * 1000000000, PERIOD_MAX_NS = INT64_C(3600) * 1000000000;

uint64_t qr_repeat_file(const struct blk_info *info)
{
    char path[BLK_PATH_MAX + 1];

    blk_fileset_path(info, path);
    return kl_hash64_seed(path, strlen(path), info->incarnation);
}

static int64_t bytes_max(const struct qr_shard *s)
{
    return (int64_t)(atomic_load(&s->q->o.prefetch_max_bytes) / s->q->shard_count);
}

/* ---- the list ---- */

static void unlist(struct qr_repeats *all, struct qr_repeat *r)
{
    *(r->newer != NULL ? &r->newer->older : &all->newest) = r->older;
    *(r->older != NULL ? &r->older->newer : &all->oldest) = r->newer;
    all->count--;
}

static void list(struct qr_repeats *all, struct qr_repeat *r)
{
    r->older = all->newest;
    r->newer = NULL;
    *(all->newest != NULL ? &all->newest->newer : &all->oldest) = r;
    all->newest = r;
    all->count++;
}

/* What is left of what was taken ahead: nobody used it. */
static uint64_t waste(struct qr_shard *s, struct qr_repeat *r)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < r->taken_count; i++)
        bytes += r->taken[i].bytes;
    r->taken_count = 0;
    kl_count(s->q->m.ahead_wasted, bytes);
    return bytes;
}

static void forget(struct qr_shard *s, struct qr_repeat *r)
{
    if (s->repeats.running != NULL)
        qr_ahead_forget(s, r);
    unlist(&s->repeats, r);
    waste(s, r);
    for (size_t i = 0; i < r->known_count; i++)
        qr_manifest_unref(r->known[i].manifest);
    free(r->known);
    free(r->taken);
    free((void *)r->text.at);
    free(r);
}

void qr_repeat_tried(const struct qr_shard *s, struct qr_repeat *r, bool is)
{
    for (size_t i = 0; i < r->known_count; i++) {
        struct qr_known *k = &r->known[i];

        k->tried = is && k->partition < s->pointer_count ? s->pointers[k->partition].revision : 0;
    }
}

void qr_repeats_close(struct qr_shard *s)
{
    if (s->repeats.timer.armed)
        s->q->env->sched->disarm(s->loop, &s->repeats.timer);
    while (s->repeats.oldest != NULL)
        forget(s, s->repeats.oldest);
}

void qr_repeat_know(struct qr_repeat *r, uint32_t partition, struct qr_manifest *m)
{
    size_t i = 0;

    while (i < r->known_count && r->known[i].partition != partition)
        i++;
    if (i == r->known_count) {
        if ((i & (i - 1)) == 0)
            r->known = kl_resize(r->known, (i == 0 ? 1 : i * 2) * sizeof *r->known);
        r->known[r->known_count++] = (struct qr_known){ .partition = partition };
    }
    m = m != NULL ? qr_manifest_ref(m) : NULL;
    qr_manifest_unref(r->known[i].manifest);
    r->known[i].manifest = m;
}

/* ---- when ---- */

static bool lives(const struct qr_repeat *r, int64_t now_ns)
{
    return r->moves > 0 && r->period_ns <= PERIOD_MAX_NS && now_ns - r->seen_ns <= 3 * r->period_ns + LATE_NS;
}

static bool is_due(const struct qr_shard *s, const struct qr_repeat *r, int64_t now_ns)
{
    if (!lives(r, now_ns))
        return false;
    for (size_t i = 0; i < r->known_count; i++) {
        const struct qr_known   *k = &r->known[i];
        const struct qr_pointer *at = k->partition < s->pointer_count ? &s->pointers[k->partition] : NULL;

        if (at != NULL && at->known && k->tried < at->revision &&
            (k->manifest == NULL || k->manifest->m.revision < at->revision))
            return true;
    }
    return false;
}

/* The one that comes back first. */
static struct qr_repeat *find_due(struct qr_shard *s, int64_t now_ns)
{
    struct qr_repeat *first = NULL;

    for (struct qr_repeat *r = s->repeats.oldest; r != NULL; r = r->newer)
        if (is_due(s, r, now_ns) && (first == NULL || r->seen_ns + r->period_ns < first->seen_ns + first->period_ns))
            first = r;
    return first;
}

static void fill(struct qr_shard *s, int64_t now_ns)
{
    struct qr_repeats *all = &s->repeats;
    int64_t            most = bytes_max(s), passed_ms = (now_ns - all->filled_ns) / 1000000;

    if (all->filled_ns == 0 || passed_ms >= FILLS_IN_MS)
        all->room_bytes = most;
    else
        all->room_bytes += (int64_t)((double)most * (double)passed_ms / FILLS_IN_MS);
    all->room_bytes = all->room_bytes < most ? all->room_bytes : most;
    all->filled_ns = now_ns;
}

static void arm(struct qr_shard *s, int64_t ms);

static void fire(struct kl_env_timer *timer)
{
    struct qr_shard  *s = kl_container_of(timer, struct qr_shard, repeats.timer);
    int64_t           now_ns = kl_env_mono_ns(s->q->env);
    struct qr_repeat *r = find_due(s, now_ns);

    if (r == NULL || s->repeats.running != NULL || bytes_max(s) == 0)
        return;
    fill(s, now_ns);
    if (!qr_ahead_idle(s) || s->repeats.room_bytes < bytes_max(s) / 16)
        arm(s, BUSY_MS);
    else
        qr_ahead_start(s, r);
}

static void arm(struct qr_shard *s, int64_t ms)
{
    if (s->repeats.timer.armed || atomic_load(&s->q->stopping))
        return;
    s->repeats.timer.fire = fire;
    s->q->env->sched->arm(s->loop, &s->repeats.timer, ms);
}

void qr_repeats_changed(struct qr_shard *s)
{
    if (s->repeats.count > 0 && bytes_max(s) > 0 && s->repeats.running == NULL)
        arm(s, BEGIN_MS);
}

void qr_ahead_ended(struct qr_shard *s, bool busy)
{
    if (find_due(s, kl_env_mono_ns(s->q->env)) != NULL)
        arm(s, busy ? BUSY_MS : 1);
}

/* ---- noticing ---- */

static uint64_t hash_of(const struct qr_query *x)
{
    const struct pql_params *p = &x->params;
    struct { uint64_t text, tenant; int64_t step, range, lookback, rows; } of = {
        kl_hash64(p->text.at, p->text.size), kl_hash64(x->job.tenant, strlen(x->job.tenant)), p->step_ms,
        p->end_ms - p->start_ms, p->lookback_ms, x->rows_max_ms };

    return kl_hash64(&of, sizeof of);
}

static struct qr_repeat *find(struct qr_repeats *all, const struct qr_query *x, uint64_t hash)
{
    for (struct qr_repeat *r = all->newest; r != NULL; r = r->older)
        if (r->hash == hash && kl_span_eq(r->text, x->params.text) && strcmp(r->tenant, x->job.tenant) == 0)
            return r;
    return NULL;
}

static struct qr_repeat *make(struct qr_shard *s, const struct qr_query *x, uint64_t hash)
{
    struct qr_repeat *r = kl_new(sizeof *r);
    char             *text = kl_new(x->params.text.size + 1);

    if (s->repeats.count == QR_REPEATS_MAX)
        forget(s, s->repeats.oldest);
    memcpy(text, x->params.text.at, x->params.text.size);
    strcpy(r->tenant, x->job.tenant);
    r->hash = hash;
    r->text = kl_span(text, x->params.text.size);
    r->rows_max_ms = x->rows_max_ms;
    list(&s->repeats, r);
    return r;
}

/* Has the window moved on since the last time? */
static void see(struct qr_repeat *r, const struct pql_params *p, int64_t now_ns)
{
    int64_t moved = p->start_ms - r->params.start_ms;

    if (r->seen_ns != 0 && (moved < 0 || moved % p->step_ms != 0)) {
        r->moves = 0;                                  /* another dashboard's, or somebody looks back */
    } else if (r->seen_ns != 0 && moved > 0) {
        r->moves++;
        r->moved_ms = moved;
        r->period_ns = now_ns - r->seen_ns;
    }
    if (r->seen_ns == 0 || moved != 0)                 /* else it came twice within a step */
        r->seen_ns = now_ns;
    r->params = *p;
    r->params.text = r->text;
    r->params.load = NULL;
    r->params.load_ctx = NULL;
    r->params.tally = r->params.samples_per_step = r->params.step_each = false;
}

static void note_part(void *ctx, const struct qr_part *p)
{
    struct qr_repeat *r = ctx;

    if (!p->failed && p->lookup.code == KL_OK)
        qr_repeat_know(r, p->partition, p->manifest);
}

static void use(struct qr_query *x, struct qr_repeat *r, const struct blk_info *info)
{
    uint64_t file = qr_repeat_file(info);

    for (size_t i = 0; i < r->taken_count; i++)
        if (r->taken[i].file == file) {
            x->ahead_used += r->taken[i].bytes;
            kl_count(x->job.q->m.ahead_used, r->taken[i].bytes);
            r->taken[i] = r->taken[--r->taken_count];
            return;
        }
}

void qr_repeats_note(struct qr_query *x)
{
    struct qr_shard   *s = x->job.shard;
    struct pql_params *p = &x->params;
    int64_t            now_ns = kl_env_mono_ns(s->q->env);
    uint64_t           hash;
    struct qr_repeat  *r;

    if (bytes_max(s) == 0 || p->instant || p->step_ms <= 0 || p->text.size > QR_REPEAT_TEXT_MAX ||
        !qr_query_plans_here(x->job.pql))              /* it would be planned on the loop each time */
        return;
    hash = hash_of(x);
    r = find(&s->repeats, x, hash);
    if (r == NULL) {
        r = make(s, x, hash);
    } else {
        unlist(&s->repeats, r);
        list(&s->repeats, r);
    }
    see(r, p, now_ns);
    for (const struct qr_round *round = x->round; round != NULL; round = round->before)
        for (size_t i = 0; i < round->count; i++)
            for (size_t k = 0; k < round->fetches[i].part_count; k++) {
                const struct qr_part *part = round->fetches[i].parts[k];

                note_part(r, part);
                for (size_t n = 0; n < part->file_count && r->taken_count > 0; n++)
                    use(x, r, part->files[n].info);
            }
    qr_reuse_parts(x, note_part, r);
    x->repeats = r->moves;
    x->ahead_wasted = waste(s, r);
    kl_gauge_set(s->q->m.repeats, (double)s->repeats.count);
    qr_repeats_changed(s);                             /* it may have moved on while it was evaluated */
}
