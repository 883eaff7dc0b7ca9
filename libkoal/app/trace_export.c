#include "libkoal/app/trace_priv.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { GATHER_MS = 1000, SEND_MS = 5000, RETRY_MS = 500, TOLD_S = 60 };

struct tracer {
    struct kl_tracer tracer;
    struct kl_app_trace_options o;
    struct kl_metric *sent, *dropped_full, *dropped_refused, *failed;
    pthread_t        thread;
    pthread_mutex_t  lock;                             /* of what follows */
    pthread_cond_t   wake;
    struct kl_trace_span *ring;
    size_t           first, count;
    bool             ending;
    int64_t          end_ns;                           /* then: what is left is dropped */
    /* the thread's */
    struct kl_trace_span *batch;
    int64_t          told_ns;
    unsigned         untold;
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* As of now: the wall clock may have been set since. */
static int64_t epoch_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec - now_ns();
}

static void emit(struct kl_tracer *tracer, const struct kl_trace_span *s)
{
    struct tracer *t = (struct tracer *)tracer;
    bool           taken = false;

    pthread_mutex_lock(&t->lock);
    if (t->count < t->o.queue && !t->ending) {
        t->ring[(t->first + t->count++) % t->o.queue] = *s;
        taken = true;
        if (t->count == KL_APP_TRACE_BATCH || t->count == t->o.queue)
            pthread_cond_signal(&t->wake);
    }
    pthread_mutex_unlock(&t->lock);
    if (!taken)
        kl_count(t->dropped_full, 1);
}

/* Ids shall be unlike those of any other process; they are no secret. */
static void draw(struct kl_tracer *tracer, void *bytes, size_t size)
{
    (void)tracer;
    while (getrandom(bytes, size, 0) != (ssize_t)size) { }             /* small: whole or interrupted */
}

/* Waits under the lock until there is a batch, or GATHER_MS are over, or it ends. */
static void wait_for(struct tracer *t, int64_t ms)
{
    struct timespec until;
    int64_t         at = now_ns() + ms * 1000000;

    until = (struct timespec){ .tv_sec = at / 1000000000, .tv_nsec = at % 1000000000 };
    while (!t->ending && t->count < KL_APP_TRACE_BATCH && t->count < t->o.queue &&
           pthread_cond_timedwait(&t->wake, &t->lock, &until) == 0) { }
}

static void complain(struct tracer *t, size_t count, const struct kl_err *err)
{
    int64_t now = now_ns();

    kl_count(t->dropped_refused, count);
    if (t->told_ns != 0 && now - t->told_ns < (int64_t)TOLD_S * 1000000000) {
        t->untold++;
        return;
    }
    kl_logf(t->o.log, KL_WARN, "%zu spans are dropped: %s%s", count, err->text,
            t->untold > 0 ? " (and more batches since this was last said)" : "");
    t->told_ns = now;
    t->untold = 0;
}

/* How long may a send take? At the end no longer than there is. */
static int64_t time_left(struct tracer *t, int64_t most_ms)
{
    int64_t left;

    pthread_mutex_lock(&t->lock);
    left = t->ending ? (t->end_ns - now_ns()) / 1000000 : most_ms;
    pthread_mutex_unlock(&t->lock);
    return left < most_ms ? left : most_ms;
}

static void pause_for(struct tracer *t, int64_t ms)
{
    struct timespec until;
    int64_t         at = now_ns() + ms * 1000000;

    until = (struct timespec){ .tv_sec = at / 1000000000, .tv_nsec = at % 1000000000 };
    pthread_mutex_lock(&t->lock);
    while (!t->ending && pthread_cond_timedwait(&t->wake, &t->lock, &until) == 0) { }
    pthread_mutex_unlock(&t->lock);
}

static void send_batch(struct tracer *t, size_t count)
{
    struct kl_buf body = { 0 };
    struct kl_err err = { 0 };
    enum kl_code  code = KL_EAGAIN;
    int64_t       left;

    kl_app_trace_encode(&t->o.from, t->batch, count, epoch_ns(), &body);
    kl_fail(&err, KL_EAGAIN, "the process ends");
    for (unsigned i = 0; i < KL_APP_TRACE_TRIES && code == KL_EAGAIN &&
                         (left = time_left(t, SEND_MS)) > 0; i++) {
        if (i > 0) {
            kl_count(t->failed, 1);
            pause_for(t, RETRY_MS << (i - 1));
        }
        code = t->o.send(t->o.ctx, kl_buf_span(&body), left, &err);
    }
    if (code == KL_OK) {
        kl_count(t->sent, count);
    } else {
        kl_count(t->failed, 1);
        complain(t, count, &err);
    }
    kl_buf_deinit(&body);
}

static void *run(void *arg)
{
    struct tracer *t = arg;
    bool           ending = false;
    size_t         count;

    while (!ending || count > 0) {
        pthread_mutex_lock(&t->lock);
        wait_for(t, GATHER_MS);
        ending = t->ending;
        count = t->count < KL_APP_TRACE_BATCH ? t->count : KL_APP_TRACE_BATCH;
        for (size_t i = 0; i < count; i++)
            t->batch[i] = t->ring[(t->first + i) % t->o.queue];
        t->first = (t->first + count) % t->o.queue;
        t->count -= count;
        pthread_mutex_unlock(&t->lock);
        if (count > 0)
            send_batch(t, count);
    }
    return NULL;
}

static struct kl_metric *dropped(struct kl_metrics *m, const char *why)
{
    return kl_metrics_add(m, KL_COUNTER, "koalemos_trace_spans_dropped_total", why,
                          "Spans that did not leave: the queue was full, or the collector did not take them.");
}

static struct kl_metric *sent(struct kl_metrics *m)
{
    return kl_metrics_add(m, KL_COUNTER, "koalemos_trace_spans_total", "", "Spans that the collector has taken.");
}

static struct kl_metric *failed(struct kl_metrics *m)
{
    return kl_metrics_add(m, KL_COUNTER, "koalemos_trace_exports_failed_total", "",
                          "Requests to the collector that failed, those tried again too.");
}

void kl_app_trace_metrics(struct kl_metrics *m)
{
    sent(m);
    failed(m);
    dropped(m, "reason=\"full\"");
    dropped(m, "reason=\"refused\"");
}

struct kl_tracer *kl_app_tracer_new(const struct kl_app_trace_options *o)
{
    struct tracer     *t = kl_new(sizeof *t);
    pthread_condattr_t monotonic;
    sigset_t           all, before;

    t->tracer = (struct kl_tracer){ .emit = emit, .draw = draw, .one_in = o->one_in };
    t->o = *o;
    t->sent = sent(o->metrics);
    t->failed = failed(o->metrics);
    t->dropped_full = dropped(o->metrics, "reason=\"full\"");
    t->dropped_refused = dropped(o->metrics, "reason=\"refused\"");
    t->ring = kl_new(o->queue * sizeof *t->ring);
    t->batch = kl_new(KL_APP_TRACE_BATCH * sizeof *t->batch);
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);       /* main waits for signals */
    if (pthread_create(&t->thread, NULL, run, t) != 0)
        abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return &t->tracer;
}

void kl_app_tracer_free(struct kl_tracer *tracer, int64_t most_ms)
{
    struct tracer *t = (struct tracer *)tracer;

    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->ending = true;
    t->end_ns = now_ns() + most_ms * 1000000;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->wake);
    free(t->ring);
    free(t->batch);
    free(t);
}
