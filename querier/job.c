/*
 * A job: one request on its shard's loop. It waits its turn in a bounded queue, starts, ends once
 * (an answer, a failure, its time, its client gone), and is released when nothing that it asked of
 * the bus, the store or the workers is still to come back.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "querier/qr_priv.h"

enum { FAN_SLICE_NS = 10 * 1000 * 1000 };

static void run_next(struct qr_shard *s);

enum pql_error qr_kind_of(enum kl_code code)
{
    switch (code) {
    case KL_OK:        return PQL_OK;
    case KL_EINVAL:    return PQL_BAD_DATA;
    case KL_ELIMIT:    return PQL_EXECUTION;
    case KL_ETIMEOUT:  return PQL_TIMEOUT;
    case KL_ECANCELED: return PQL_CANCELED;
    case KL_EAGAIN:    return PQL_UNAVAILABLE;
    default:           return PQL_INTERNAL;
    }
}

int64_t qr_job_left_ms(const struct qr_job *j)
{
    int64_t left = (j->deadline_ns - kl_env_mono_ns(j->q->env)) / 1000000;

    return left < 0 ? 0 : left;
}

static void arm_tick(struct qr_job *j)
{
    int64_t left = qr_job_left_ms(j) + 1;              /* it is cut to whole ms: not before its time */

    j->q->env->sched->arm(j->shard->loop, &j->tick, left < QR_TICK_MS ? left : QR_TICK_MS);
}

static void on_tick(struct kl_env_timer *timer)
{
    struct qr_job *j = kl_container_of(timer, struct qr_job, tick);
    int64_t        left = qr_job_left_ms(j);

    if (atomic_load(&j->q->stopping)) {
        qr_job_fail(j, PQL_CANCELED, "the querier is stopping");
    } else if (j->gone != NULL && j->gone(j)) {
        kl_count(j->q->m.canceled, 1);
        qr_job_fail(j, PQL_CANCELED, "query was canceled in expression evaluation");
    } else if (left == 0) {
        kl_count(j->q->m.timeouts, 1);
        qr_job_fail(j, PQL_TIMEOUT, j->running ? "query timed out in expression evaluation"
                                               : "query timed out in query queue");
    } else {
        arm_tick(j);
    }
}

static void begin(struct qr_job *j)
{
    j->running = true;
    j->shard->active++;
    j->begun_ns = kl_env_mono_ns(j->q->env);
    j->start(j);
}

static void on_submit(struct kl_env_task *task)
{
    struct qr_job   *j = kl_container_of(task, struct qr_job, task);
    struct qr_shard *s = j->shard;
    unsigned         most = (j->q->o.concurrent_max + j->q->shard_count - 1) / j->q->shard_count;

    kl_gauge_set(j->q->m.active, (double)atomic_load(&j->q->jobs));
    qr_ledger_begin(j);
    j->tick.fire = on_tick;
    if (s->active < most) {
        arm_tick(j);
        begin(j);
    } else if (s->waiting < QR_WAITING_MAX) {
        arm_tick(j);
        j->next = NULL;
        if (s->waiting_last != NULL)
            s->waiting_last->next = j;
        else
            s->waiting_first = j;
        s->waiting_last = j;
        s->waiting++;
    } else {
        kl_count(j->q->m.refused, 1);
        qr_job_fail(j, PQL_UNAVAILABLE, "%u queries run and %u wait already: try again later",
                    s->active, s->waiting);
    }
}

/* A query has its tenant's features as they are at its beginning. */
static void read_features(struct qr_querier *q, struct qr_job *j)
{
    struct kl_config *c = qr_config(q);

    j->hedges = c == NULL || kl_config_feature(c, "features.hedging", kl_span_str(j->tenant));
    j->reuses = c == NULL || kl_config_feature(c, "features.results_cache", kl_span_str(j->tenant));
    j->pushes = q->o.pushes && (c == NULL || kl_config_feature(c, "features.pushdown", kl_span_str(j->tenant)));
    kl_config_free(c);
}

void qr_submit(struct qr_querier *q, struct qr_job *j)
{
    int64_t timeout_ms = j->timeout_ms;

    if (timeout_ms <= 0 || timeout_ms > q->o.timeout_ms)
        timeout_ms = q->o.timeout_ms;
    kl_count(q->m.started, 1);
    atomic_fetch_add(&q->jobs, 1);
    j->q = q;
    j->shard = &q->shards[atomic_fetch_add_explicit(&q->turn, 1, memory_order_relaxed) %
                          q->shard_count];
    j->budget.cap_bytes = (size_t)(q->o.query_memory_max_bytes / 2);
    read_features(q, j);
    j->submitted_ns = kl_env_mono_ns(q->env);
    j->deadline_ns = j->submitted_ns + timeout_ms * 1000000;
    j->trace = kl_trace_child(q->o.tracer, &j->above);
    j->holds = 1;                                      /* until it ends */
    j->task.run = on_submit;
    q->env->sched->post(j->shard->loop, &j->task);
}

static void unqueue(struct qr_job *j)
{
    struct qr_shard *s = j->shard;

    for (struct qr_job **at = &s->waiting_first, *last = NULL; *at != NULL;
         last = *at, at = &(*at)->next)
        if (*at == j) {
            *at = j->next;
            if (s->waiting_last == j)
                s->waiting_last = last;
            s->waiting--;
            return;
        }
}

static void end(struct qr_job *j)
{
    int64_t now_ns = kl_env_mono_ns(j->q->env);

    j->ended = true;
    atomic_store(&j->stop, true);
    qr_stop_all(j, NULL);
    if (!j->running)
        unqueue(j);                                    /* where it is in the queue */
    if (j->tick.armed)
        j->q->env->sched->disarm(j->shard->loop, &j->tick);
    if (j->aside) {
        j->finish(j);
        qr_drop(j);
        return;
    }
    if (j->failure.kind != PQL_OK) {
        kl_count(j->q->m.failed, 1);
        if (j->pql != NULL)                            /* its workers stop at the next look */
            pql_fail(j->pql, j->failure.kind, "%s", j->failure.text);
    }
    kl_metric_observe(j->q->m.seconds, (double)(now_ns - j->submitted_ns) * 1e-9);
    qr_told_job(j, now_ns);
    qr_ledger_end(j);
    qr_orders_trim(&j->shard->orders, now_ns);
    j->finish(j);
    qr_drop(j);
}

void qr_job_done(struct qr_job *j)
{
    if (!j->ended)
        end(j);
}

void qr_job_fail(struct qr_job *j, enum pql_error kind, const char *fmt, ...)
{
    va_list args;

    if (j->ended)
        return;
    assert(kind != PQL_OK);
    j->failure.kind = kind;
    va_start(args, fmt);
    vsnprintf(j->failure.text, sizeof j->failure.text, fmt, args);
    va_end(args);
    end(j);
}

void qr_job_warn(struct qr_job *j, const char *fmt, ...)
{
    char     text[600];
    unsigned at = 0;
    va_list  args;

    if (j->ended)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    while (at < j->warning_count && strcmp(j->warnings[at], text) != 0)
        at++;
    if (at == QR_WARNINGS_MAX)
        return;
    if (at == j->warning_count)
        j->warnings[j->warning_count++] = kl_strdup(text);
    if (j->pql != NULL)                                /* perhaps another than it was told to before */
        pql_warn(j->pql, "%s", text);
}

void qr_hold(struct qr_job *j)
{
    assert(j->holds > 0);
    j->holds++;
}

void qr_drop(struct qr_job *j)
{
    struct qr_querier *q = j->q;
    struct qr_shard   *s = j->shard;

    assert(j->holds > 0);
    if (--j->holds > 0)
        return;
    assert(j->ended);
    for (unsigned i = 0; i < j->warning_count; i++)
        free(j->warnings[i]);
    if (j->running)
        s->active--;
    if (j->pours)
        s->pouring--;
    j->release(j);
    run_next(s);
    /* Last: qr_free may be waiting for it, and the shard goes with the querier. */
    kl_gauge_set(q->m.active, (double)atomic_load(&q->jobs) - 1);
    atomic_fetch_sub(&q->jobs, 1);
}

static unsigned most_of(const struct qr_shard *s)
{
    return (s->q->o.concurrent_max + s->q->shard_count - 1) / s->q->shard_count;
}

bool qr_job_pours(struct qr_job *j)
{
    struct qr_shard *s = j->shard;

    assert(j->ended && j->running && !j->pours);
    if (s->pouring == most_of(s))
        return false;
    j->pours = true;
    j->running = false;
    s->pouring++;
    s->active--;
    qr_hold(j);
    run_next(s);
    return true;
}

static void run_next(struct qr_shard *s)
{
    unsigned most = most_of(s);

    while (s->active < most && s->waiting_first != NULL) {
        struct qr_job *j = s->waiting_first;

        unqueue(j);
        begin(j);
    }
}

/* ---- fans ---- */

/* Takes items until there are none left: true; or until its slice of time is over: false. */
static bool fan_items(struct qr_fan *f, unsigned worker, int64_t until_ns)
{
    for (;;) {
        size_t item = atomic_fetch_add_explicit(&f->next, 1, memory_order_relaxed);

        if (item >= f->count || atomic_load_explicit(&f->job->stop, memory_order_relaxed))
            return true;
        f->item(f, item, worker);
        if (until_ns != 0 && kl_env_mono_ns(f->job->q->env) > until_ns)
            return false;
    }
}

static void fan_back(struct kl_env_task *task)
{
    struct qr_fan_task *t = kl_container_of(task, struct qr_fan_task, task);
    struct qr_fan      *f = t->fan;
    struct qr_job      *j = f->job;

    if (--f->left == 0) {
        if (!j->ended)
            f->done(f);
        qr_drop(j);
    }
}

static void fan_work(struct kl_env_task *task)
{
    struct qr_fan_task *t = kl_container_of(task, struct qr_fan_task, task);
    struct qr_job      *j = t->fan->job;

    /* Behind the work of others when its slice is over: a small query waits for none larger. */
    if (!fan_items(t->fan, t->worker, kl_env_mono_ns(j->q->env) + FAN_SLICE_NS)) {
        j->q->env->sched->work(j->q->env->sched, task);
        return;
    }
    task->run = fan_back;
    j->q->env->sched->post(j->shard->loop, task);
}

bool qr_fan_run(struct qr_fan *f, bool here)
{
    struct qr_querier *q = f->job->q;

    atomic_store(&f->next, 0);
    if (here || f->count == 0) {
        fan_items(f, 0, 0);
        return true;
    }
    f->left = f->count < q->workers ? (unsigned)f->count : q->workers;
    qr_hold(f->job);
    /* `left` is read on this loop only; a task that ends at once posts and waits for its turn. */
    for (unsigned i = 0, n = f->left; i < n; i++) {
        f->tasks[i] = (struct qr_fan_task){ .task.run = fan_work, .fan = f, .worker = i };
        q->env->sched->work(q->env->sched, &f->tasks[i].task);
    }
    return false;
}
