/* The local bus put together: opening, closing, health. */
#include "libkoal/bus/bus_local_priv.h"

#include <assert.h>
#include <stdlib.h>

enum { FSYNC_MS_MAX = 60 * 60 * 1000 };

enum kl_code kl_busl_closed(struct kl_err *err)
{
    return kl_fail(err, KL_ECANCELED, "the bus was closed");
}

bool kl_busl_enter(struct kl_busl *b)
{
    atomic_fetch_add(&b->entered, 1);
    if (!atomic_load(&b->closed))
        return true;
    atomic_fetch_sub(&b->entered, 1);
    return false;
}

enum kl_code kl_busl_hand(struct kl_busl *b, struct kl_env_loop *loop, struct kl_env_task *task,
                          void (*run)(struct kl_env_task *task), struct kl_err *err)
{
    if (!kl_busl_enter(b))
        return kl_busl_closed(err);
    task->run = run;
    kl_busl_post(b, loop, task);
    kl_busl_leave(b);
    return KL_OK;
}

void kl_busl_leave(struct kl_busl *b) { atomic_fetch_sub(&b->entered, 1); }

static void append(struct kl_bus *bus, struct kl_bus_append *op)
{
    kl_busl_writer_append(&kl_busl(bus)->writer, op);
}

static bool end(struct kl_bus *bus, uint32_t partition, uint64_t *last_seq)
{
    struct kl_busl *b = kl_busl(bus);

    if (partition >= b->options.partitions)
        return false;
    *last_seq = atomic_load(&b->ends[partition]);
    return true;
}

static bool healthy(struct kl_bus *bus, struct kl_err *err)
{
    struct kl_busl *b = kl_busl(bus);

    if (!atomic_load(&b->failed))
        return true;
    *err = b->why;
    return false;
}

static void close_bus(struct kl_bus *bus)
{
    struct kl_busl *b = kl_busl(bus);
    struct kl_env_sched *sched = b->env->sched;

    assert(!atomic_load(&b->closed));
    atomic_store(&b->closed, true);
    while (atomic_load(&b->entered) > 0)               /* no longer than one post takes */
        ;
    /* The writer feeds the reader: first the one, then the other. */
    sched->post(b->writer.loop, &b->writer.end);
    sched->loop_free(b->writer.loop);
    sched->post(b->reader.loop, &b->reader.end);
    sched->loop_free(b->reader.loop);
    kl_busl_kv_close(b->kv);
    kl_busl_asks_close(b->asks);
}

static void dismantle(struct kl_busl *b)
{
    if (b->writer.file != NULL)
        b->dir->close(b->writer.file);
    if (b->dir != NULL) {
        kl_busl_reader_free(&b->reader);
        b->dir->leave(b->dir);
    }
    kl_busl_kv_free(b->kv);
    kl_busl_asks_free(b->asks);
    kl_busl_ids_free(b->writer.ids);
    free(b->writer.next_seq);
    free((void *)b->ends);
    free(b);
}

static void free_bus(struct kl_bus *bus)
{
    assert(atomic_load(&kl_busl(bus)->closed));
    dismantle(kl_busl(bus));
}

static enum kl_code options_check(const struct kl_bus_local_options *given,
                                  struct kl_bus_local_options *o, struct kl_err *err)
{
    *o = *given;
    if (o->partitions == 0 || o->partitions > KL_BUS_PARTITIONS_MAX)
        return kl_fail(err, KL_EINVAL, "%u partitions: 1 to %d", o->partitions,
                       KL_BUS_PARTITIONS_MAX);
    if (o->fsync_ms < 0 || o->fsync_ms > FSYNC_MS_MAX)
        return kl_fail(err, KL_EINVAL, "a sync each %lld ms: 0 to %d", (long long)o->fsync_ms,
                       FSYNC_MS_MAX);
    if (o->segment_bytes == 0)
        o->segment_bytes = 64u << 20;
    /* The segment being written cannot be dropped: it must stay a small part of the whole, or a
     * log that is full and purged would stay full. */
    if (o->log_bytes_max > 0 && o->segment_bytes > o->log_bytes_max / 8)
        o->segment_bytes = o->log_bytes_max / 8;
    if (o->segment_bytes < KL_BUSL_SEGMENT_BYTES_MIN)
        o->segment_bytes = KL_BUSL_SEGMENT_BYTES_MIN;
    if (o->segment_bytes > KL_BUSL_SEGMENT_BYTES_MAX)
        o->segment_bytes = KL_BUSL_SEGMENT_BYTES_MAX;
    return KL_OK;
}

/* Without a registry the counters are counted all the same, where nobody looks. */
static void metrics_add(struct kl_busl *b, struct kl_metrics *m)
{
    static const struct { const char *name, *help; size_t at; } all[] = {
        { "koalemos_bus_appended_records_total", "Records appended to the log.",
          offsetof(struct kl_busl, appended_records) },
        { "koalemos_bus_appended_bytes_total", "Bytes of records appended to the log.",
          offsetof(struct kl_busl, appended_bytes) },
        { "koalemos_bus_commits_total", "Group commits of the log.", offsetof(struct kl_busl, commits) },
        { "koalemos_bus_duplicates_total", "Appends that were there already.",
          offsetof(struct kl_busl, duplicates) },
        { "koalemos_bus_refused_total", "Appends that failed.", offsetof(struct kl_busl, refused) },
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        *(struct kl_metric **)((char *)b + all[i].at) =
            m != NULL ? kl_metrics_add(m, KL_COUNTER, all[i].name, "", all[i].help) : &b->unseen;
}

enum kl_code kl_bus_local_open(struct kl_env *env, struct kl_env_dir *dir,
                               const struct kl_bus_local_options *options, struct kl_bus **bus,
                               struct kl_err *err)
{
    struct kl_bus_local_options o;
    struct kl_busl *b;

    if (options_check(options, &o, err) != KL_OK)
        return kl_within(err, "open the local bus");
    b = kl_new(sizeof *b);
    b->env = env;
    b->log = o.log;
    b->options = o;
    b->writer.bus = b->reader.bus = b;
    b->bus = (struct kl_bus){ .append = append, .info = kl_busl_info, .end = end,
                              .read_open = kl_busl_read_open, .read_close = kl_busl_read_close,
                              .purge = kl_busl_purge, .ask = kl_busl_ask, .serve = kl_busl_serve,
                              .unserve = kl_busl_unserve, .answer = kl_busl_answer,
                              .answer_take = kl_busl_answer_take,
                              .kv = kl_busl_kv_op, .watch = kl_busl_watch,
                              .unwatch = kl_busl_unwatch, .healthy = healthy, .close = close_bus,
                              .free = free_bus, .env = env };
    metrics_add(b, o.metrics);
    if (dir->enter(dir, "log", true, &b->dir, err) != KL_OK || kl_busl_recover(b, err) != KL_OK ||
        kl_busl_kv_open(b, dir, err) != KL_OK) {
        dismantle(b);
        return kl_within(err, "open the local bus");
    }
    b->ends = kl_new(o.partitions * sizeof *b->ends);
    for (uint32_t p = 0; p < o.partitions; p++)
        atomic_store(&b->ends[p], b->writer.next_seq[p] - 1);
    kl_busl_writer_start(b);
    kl_busl_reader_start(b);
    kl_busl_asks_open(b);
    *bus = &b->bus;
    return KL_OK;
}
