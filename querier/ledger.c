/*
 * The ledger of a shard: the jobs that are under way, and, by tenant, text and length of range, how
 * often the queries of late were answered and how long they took. It holds QR_RAN_MAX queries; a new
 * one takes the place of the one that was asked longest ago.
 */
#include <stdlib.h>

#include "querier/qr_priv.h"

void qr_ledger_begin(struct qr_job *j)
{
    struct qr_shard *s = j->shard;

    j->newer = NULL;
    j->older = s->jobs;
    if (s->jobs != NULL)
        s->jobs->newer = j;
    s->jobs = j;
}

static struct qr_ran *entry_of(struct qr_job *j, int64_t range_s, int64_t now_ns)
{
    struct qr_shard *s = j->shard;
    uint64_t         hash = kl_hash64(j->text.at, j->text.size) ^ (uint64_t)range_s;
    struct qr_ran   *oldest = NULL, *e;

    for (size_t i = 0; i < s->ran_count; i++) {
        e = &s->ran[i];
        if (e->hash == hash && e->range_s == range_s &&
            kl_span_eq(kl_span(e->text, e->text_size), j->text) && strcmp(e->tenant, j->tenant) == 0)
            return e;
        if (oldest == NULL || e->last_ns < oldest->last_ns)
            oldest = e;
    }
    if (s->ran == NULL)
        s->ran = kl_new(QR_RAN_MAX * sizeof *s->ran);
    e = s->ran_count < QR_RAN_MAX ? &s->ran[s->ran_count++] : oldest;
    free(e->text);
    *e = (struct qr_ran){ .text_size = j->text.size, .hash = hash, .range_s = range_s,
                          .last_ns = now_ns };
    memcpy(e->tenant, j->tenant, sizeof e->tenant);
    e->text = kl_new(j->text.size + 1);
    memcpy(e->text, j->text.at, j->text.size);
    return e;
}

void qr_ledger_end(struct qr_job *j)
{
    struct qr_shard *s = j->shard;
    int64_t          now_ns = kl_env_mono_ns(j->q->env);
    struct qr_ran   *e;

    *(j->newer != NULL ? &j->newer->older : &s->jobs) = j->older;
    if (j->older != NULL)
        j->older->newer = j->newer;
    if (j->text.size == 0 || j->text.size > QR_RAN_TEXT_MAX)
        return;
    e = entry_of(j, (j->range_to_ms - j->range_from_ms) / 1000, now_ns);
    e->count++;
    e->total_ns += now_ns - j->submitted_ns;
    e->last_ns = now_ns;
}

void qr_ledger_close(struct qr_shard *s)
{
    for (size_t i = 0; i < s->ran_count; i++)
        free(s->ran[i].text);
    free(s->ran);
    s->ran = NULL;
    s->ran_count = 0;
}

/* ---- a census ---- */

static void on_shard(struct kl_env_task *task)
{
    struct qr_census  *c = kl_container_of(task, struct qr_census, task);
    struct qr_querier *q = c->q;

    c->visit(c, &q->shards[c->at]);
    if (++c->at < q->shard_count)
        q->env->sched->post(q->shards[c->at].loop, task);
    else
        c->done(c);
}

void qr_census_start(struct qr_census *c)
{
    c->at = 0;
    c->task.run = on_shard;
    c->q->env->sched->post(c->q->shards[0].loop, &c->task);
}
