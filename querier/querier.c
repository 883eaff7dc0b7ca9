#include "querier/querier.h"

#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "querier/options.h"
#include "querier/qr_priv.h"

enum { LOOP_QUEUE_MAX = 4096 };

static const double seconds_bounds[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                         1, 2.5, 5, 10, 30, 60, 120 };

static struct qr_read_metrics read_metrics(struct kl_metrics *r, const char *kind)
{
    static const char from[] = "koalemos_querier_stored_bytes_total", *const places[] = {
        "memory", "disk", "store", "shared" };
    struct kl_metric *of[4];
    char              labels[64];

    for (unsigned i = 0; i < 4; i++) {
        snprintf(labels, sizeof labels, "kind=\"%s\",from=\"%s\"", kind, places[i]);
        of[i] = kl_metrics_add(r, KL_COUNTER, from, labels,
                               "Bytes of filesets, by where they came from; shared: with another's request.");
    }
    snprintf(labels, sizeof labels, "kind=\"%s\"", kind);
    return (struct qr_read_metrics){
        .memory = of[0], .disk = of[1], .store = of[2], .shared = of[3],
        .wanted = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_stored_wanted_bytes_total", labels,
                                 "Bytes, as they lie in filesets, of the frames that queries needed."),
        .requests = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_store_requests_total", labels,
                                   "Requests to the object storage for them."),
    };
}

static void metrics_init(struct qr_querier *q)
{
    struct kl_metrics *r = q->o.metrics;
    struct qr_metrics *m = &q->m;

    m->read_data = read_metrics(r, "data");
    m->read_index = read_metrics(r, "index");
    m->started = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_requests_total", "",
                                "Queries and label requests admitted or refused.");
    m->refused = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_requests_refused_total", "",
                                "Requests refused because the queue was full.");
    m->failed = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_requests_failed_total", "",
                               "Requests that ended with an error of any kind.");
    m->timeouts = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_timeouts_total", "",
                                 "Requests that ran out of time.");
    m->canceled = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_canceled_total", "",
                                 "Requests whose client left before the answer.");
    m->samples = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_samples_total", "",
                                "Samples decoded for queries.");
    m->series = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_series_total", "",
                               "Series decoded for queries.");
    m->pages = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_pages_total", "",
                              "Pages received from ingestors.");
    m->page_bytes = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_page_bytes_total", "",
                                   "Bytes of pages received from ingestors.");
    m->retries = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_retries_total", "",
                                "Questions to ingestors asked again.");
    m->pushes = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_pushdowns_total", "",
                               "Aggregates asked of ingestors in place of their series");
    m->pushes_refused = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_pushdowns_refused_total", "",
                                       "Of these, could not be had, so that the series were asked for");
    m->pushes_stopped = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_pushdowns_stopped_total", "",
                                       "Ingestors told that an aggregate is not wanted any more");
    m->hedges = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_hedges_total", "",
                               "Questions put to a second member because the first was slow.");
    m->hedges_won = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_hedges_won_total", "",
                                   "Questions that the second member answered first.");
    m->filesets_corrupt = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_filesets_corrupt_total", "",
                                         "Times that a fileset was found corrupt while it was read");
    m->filesets_read = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_filesets_read_total", "",
                                      "Filesets selected from.");
    m->filesets_opened = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_filesets_opened_total",
                                        "", "Filesets opened because the cache had them not.");
    m->kept_hits = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_cache_hits_total", "",
                                  "Data frames and selections of filesets found in memory.");
    m->kept_misses = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_cache_misses_total", "",
                                    "Data frames and selections of filesets that had to be read.");
    m->kept_bytes = kl_metrics_add(r, KL_GAUGE, "koalemos_querier_cache_bytes", "",
                                   "Memory of what is kept of filesets that were read.");
    m->results_steps = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_results_cache_steps_total", "",
                                      "Steps of range queries that were looked for among parts of answers.");
    m->results_hits = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_results_cache_hits_total", "",
                                     "Steps of range queries that were not evaluated again.");
    m->results_bytes = kl_metrics_add(r, KL_GAUGE, "koalemos_querier_results_cache_bytes", "",
                                      "Memory of the parts of answers that are kept.");
    m->repeats = kl_metrics_add(r, KL_GAUGE, "koalemos_querier_repeats", "",
                                "Range queries of late that a shard remembers, to read ahead for those that come again.");
    m->ahead_bytes = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_prefetch_bytes_total", "",
                                    "Bytes read of the object storage ahead of queries that come again.");
    m->ahead_requests = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_prefetch_requests_total", "",
                                       "Requests to the object storage for them.");
    m->ahead_used = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_prefetch_used_bytes_total", "",
                                   "Of them, bytes of filesets that the query read when it came.");
    m->ahead_wasted = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_prefetch_wasted_bytes_total", "",
                                     "Of them, bytes of filesets that it did not read, or of queries that did not come.");
    m->ahead_stopped = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_prefetch_stopped_total", "",
                                      "Times that reading ahead made room for queries, or had read what it may.");
    m->partial = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_incomplete_total", "",
                                "Times that something was missing from an answer.");
    m->slow = kl_metrics_add(r, KL_COUNTER, "koalemos_querier_slow_queries_total", "",
                             "Requests that took longer than querier.slow_query.");
    m->active = kl_metrics_add(r, KL_GAUGE, "koalemos_querier_requests_active", "",
                               "Requests under way or waiting.");
    m->seconds = kl_metrics_hist(r, "koalemos_querier_request_seconds", "",
                                 "From arrival to answer.", seconds_bounds,
                                 sizeof seconds_bounds / sizeof seconds_bounds[0]);
}

static void on_open(struct kl_env_task *task)
{
    struct qr_shard *s = kl_container_of(task, struct qr_shard, open_task);

    qr_catalogue_open(s);
    atomic_store(&s->opened, true);
}

static void on_close(struct kl_env_task *task)
{
    struct qr_shard *s = kl_container_of(task, struct qr_shard, close_task);

    if (atomic_load(&s->opened))
        qr_catalogue_close(s);
    qr_cache_close(s);
    qr_orders_free(&s->orders);
    qr_results_close(&s->results);
    qr_repeats_close(s);
    qr_ledger_close(s);
}

static void fill_in(struct qr_options *o)
{
    if (o->timeout_ms <= 0)
        o->timeout_ms = 2 * 60 * 1000;
    if (o->lookback_ms <= 0)
        o->lookback_ms = 5 * 60 * 1000;
    if (o->query_memory_max_bytes == 0)
        o->query_memory_max_bytes = 512ull << 20;
    if (o->query_samples_max == 0)
        o->query_samples_max = 50 * 1000 * 1000;
    if (o->cache_max_bytes == 0)
        o->cache_max_bytes = 64ull << 20;
    if (o->concurrent_max == 0)
        o->concurrent_max = 20;
}

struct kl_config *qr_config(const struct qr_querier *q)
{
    if (q->o.live != NULL)
        return kl_env_live_get(q->o.live);
    return q->o.config != NULL ? kl_config_ref(q->o.config) : NULL;
}

/* Each shard hears of it, and each says the same; what it keeps is its own. */
static void on_change(struct kl_env_listener *l)
{
    struct qr_shard   *s = kl_container_of(l, struct qr_shard, listener);
    struct qr_options *o = &s->q->o;
    struct kl_config  *c = kl_env_live_get(o->live);
    struct qr_options  now;

    qr_options_read(c, &now);
    fill_in(&now);
    o->timeout_ms = now.timeout_ms;
    o->lookback_ms = now.lookback_ms;
    o->query_memory_max_bytes = now.query_memory_max_bytes;
    o->query_samples_max = now.query_samples_max;
    o->cache_max_bytes = now.cache_max_bytes;
    o->concurrent_max = now.concurrent_max;
    o->slow_ms = now.slow_ms;
    o->results_cache_bytes = now.results_cache_bytes;
    o->results_cache_fresh_ms = now.results_cache_fresh_ms;
    o->results_cache_least = now.results_cache_least;
    qr_results_bound(&s->results, (size_t)(now.results_cache_bytes / s->q->shard_count));
    kl_gauge_set(s->q->m.results_bytes, (double)s->results.bytes);
    o->prefetch_max_bytes = now.prefetch_max_bytes;
    o->hedge_percent = now.hedge_percent;
    s->keep.cap_bytes = (size_t)(now.cache_max_bytes / s->q->shard_count);
    kl_config_free(c);
}

struct qr_querier *qr_new(struct kl_env *env, struct kl_bus *bus, struct kl_store *store,
                          const struct qr_options *options)
{
    struct qr_querier *q = kl_new(sizeof *q);

    q->env = env;
    q->bus = bus;
    q->store = store;
    q->o = *options;
    fill_in(&q->o);
    if (q->o.metrics == NULL)
        q->o.metrics = q->own_metrics = kl_metrics_new();
    metrics_init(q);

    q->started_ms = kl_env_now_ms(env);
    q->workers = env->sched->workers(env->sched);
    if (q->workers > PQL_WORKERS_MAX)
        q->workers = PQL_WORKERS_MAX;
    q->shard_count = q->o.loops == 0 ? 1 : q->o.loops;
    if (q->shard_count > QR_SHARDS_MAX)
        q->shard_count = QR_SHARDS_MAX;
    for (unsigned i = 0; i < q->shard_count; i++) {
        struct qr_shard *s = &q->shards[i];

        s->q = q;
        env->random->fill(env->random, &s->asker, sizeof s->asker);
        s->asker |= 1;                                 /* 0 is nobody */
        qr_results_bound(&s->results, (size_t)(q->o.results_cache_bytes / q->shard_count));
        s->hedge = (struct kl_hedge){ .first_ms = QR_HEDGE_FIRST_MS, .least_ms = QR_HEDGE_LEAST_MS,
                                      .most_ms = QR_HEDGE_MOST_MS, .burst = QR_HEDGE_BURST };
        s->push_hedge = s->hedge;
        s->push_hedge.least_ms = QR_HEDGE_PUSH_LEAST_MS;
        s->keep.cap_bytes = (size_t)(q->o.cache_max_bytes / q->shard_count);
        s->loop = env->sched->loop_new(env->sched, "querier", LOOP_QUEUE_MAX);
        env->sched->lend(s->loop);
        s->open_task.run = on_open;
        env->sched->post(s->loop, &s->open_task);
        if (q->o.live != NULL) {
            s->listener = (struct kl_env_listener){ .loop = s->loop, .sched = env->sched,
                                                    .changed = on_change };
            kl_env_live_listen(q->o.live, &s->listener);
        }
    }
    return q;
}

void qr_free(struct qr_querier *q)
{
    if (q == NULL)
        return;
    /* Requests have been answered by now or are answered with "canceled" at their next tick; what
     * they asked of the bus and the workers must come back before its memory may go. */
    atomic_store(&q->stopping, true);
    while (atomic_load(&q->jobs) != 0)
        sched_yield();
    for (unsigned i = 0; i < q->shard_count; i++) {
        struct qr_shard *s = &q->shards[i];

        if (q->o.live != NULL)
            kl_env_live_unlisten(q->o.live, &s->listener);
        s->close_task.run = on_close;
        q->env->sched->post(s->loop, &s->close_task);
        q->env->sched->loop_free(s->loop);
    }
    if (q->own_metrics != NULL)
        kl_metrics_free(q->own_metrics);
    free(q);
}

bool qr_ready(struct qr_querier *q, struct kl_err *err)
{
    if (!q->bus->healthy(q->bus, err)) {
        kl_within(err, "querier");
        return false;
    }
    for (unsigned i = 0; i < q->shard_count; i++) {
        if (!atomic_load(&q->shards[i].placement_known)) {
            kl_fail(err, KL_EAGAIN, "querier: the placement table has not been read yet");
            return false;
        }
        if (!atomic_load(&q->shards[i].catalogue_known)) {
            kl_fail(err, KL_EAGAIN, "querier: the catalogue has not been read yet");
            return false;
        }
    }
    return true;
}
