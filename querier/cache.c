/*
 * Open filesets of a shard, kept by path until newer ones need the room; each keeps what was read of
 * it twice, within a bound for all. Opening reads from the
 * store, so it runs on a worker; several that want the same fileset wait for one opening. Readers
 * hold references: an evicted fileset lives until its last reader is done.
 */
#include <assert.h>
#include <stdlib.h>

#include "querier/qr_priv.h"

enum { BUCKETS = 4096 };                               /* a power of two */
enum { TRIM_EVERY_MS = 500 };

struct qr_cached {
    char path[BLK_PATH_MAX + 1];
    uint64_t hash, incarnation;
    struct blk_fileset *fileset;                       /* NULL: being opened for `waiters` */
    struct qr_open *waiters;
    size_t bytes;
    struct qr_cached *chain, *newer, *older;
};

static struct qr_cached *find(struct qr_shard *s, const char *path, uint64_t hash,
                              uint64_t incarnation)
{
    if (s->cache == NULL)
        return NULL;
    for (struct qr_cached *c = s->cache[hash & (BUCKETS - 1)]; c != NULL; c = c->chain)
        if (c->hash == hash && c->incarnation == incarnation && strcmp(c->path, path) == 0)
            return c;
    return NULL;
}

static void unlist(struct qr_shard *s, struct qr_cached *c)
{
    *(c->newer != NULL ? &c->newer->older : &s->newest) = c->older;
    *(c->older != NULL ? &c->older->newer : &s->oldest) = c->newer;
    c->newer = c->older = NULL;
}

static void list(struct qr_shard *s, struct qr_cached *c)
{
    c->older = s->newest;
    c->newer = NULL;
    *(s->newest != NULL ? &s->newest->newer : &s->oldest) = c;
    s->newest = c;
}

static void unchain(struct qr_shard *s, struct qr_cached *c)
{
    struct qr_cached **at = &s->cache[c->hash & (BUCKETS - 1)];

    while (*at != c)
        at = &(*at)->chain;
    *at = c->chain;
}

static void evict(struct qr_shard *s, struct qr_cached *c)
{
    unlist(s, c);
    unchain(s, c);
    s->cache_bytes -= c->bytes;
    s->cache_count--;
    blk_fileset_unref(c->fileset);
    free(c);
}

struct blk_fileset *qr_cache_get(struct qr_shard *s, const struct blk_info *info)
{
    char              path[BLK_PATH_MAX + 1];
    struct qr_cached *c;

    blk_fileset_path(info, path);
    c = find(s, path, kl_hash64(path, strlen(path)), info->incarnation);
    if (c == NULL || c->fileset == NULL)
        return NULL;
    unlist(s, c);
    list(s, c);
    return blk_fileset_ref(c->fileset);
}

void qr_cache_forget(struct qr_shard *s, const struct blk_info *info)
{
    char              path[BLK_PATH_MAX + 1];
    struct qr_cached *c;

    blk_fileset_path(info, path);
    c = find(s, path, kl_hash64(path, strlen(path)), info->incarnation);
    if (c != NULL && c->fileset != NULL)
        evict(s, c);
}

static void tally(const struct qr_read_metrics *m, const struct blk_bytes *b)
{
    kl_count(m->wanted, b->wanted);
    kl_count(m->memory, b->memory);
    kl_count(m->disk, b->disk);
    kl_count(m->store, b->store);
    kl_count(m->shared, b->shared);
    kl_count(m->requests, b->requests);
}

void qr_cache_tally(struct qr_shard *s, const struct blk_tally *t)
{
    tally(&s->q->m.read_data, &t->data);
    tally(&s->q->m.read_index, &t->index);
}

/* Second chance, from the fileset that was used longest ago: what was not used since the last trim
 * goes, and all of it goes with a fileset that is evicted. */
void qr_cache_trim(struct qr_shard *s)
{
    struct qr_metrics *m = &s->q->m;
    int64_t            now_ns = kl_env_mono_ns(s->q->env);
    size_t             most = s->keep.cap_bytes / 4 * 3;

    kl_count(m->kept_hits, atomic_exchange(&s->keep.hits, 0));
    kl_count(m->kept_misses, atomic_exchange(&s->keep.misses, 0));
    kl_gauge_set(m->kept_bytes, (double)atomic_load(&s->keep.bytes));
    if (atomic_load(&s->keep.bytes) <= most ||
        now_ns - s->trimmed_ns < INT64_C(1000000) * TRIM_EVERY_MS)
        return;
    s->trimmed_ns = now_ns;
    for (struct qr_cached *c = s->oldest; c != NULL && atomic_load(&s->keep.bytes) > most;
         c = c->newer)
        blk_fileset_trim(c->fileset);
}

void qr_cache_close(struct qr_shard *s)
{
    while (s->oldest != NULL)
        evict(s, s->oldest);
    free(s->cache);
    s->cache = NULL;
}

static void opened(struct kl_env_task *task)
{
    struct qr_open     *o = kl_container_of(task, struct qr_open, task);
    struct qr_shard    *s = o->job->shard;
    struct blk_fileset *f = o->fileset;
    char                path[BLK_PATH_MAX + 1];
    struct qr_cached   *c;
    struct qr_open     *w;
    enum kl_code        code = o->code;
    struct kl_err       err = o->err;

    blk_fileset_path(o->info, path);
    c = find(s, path, kl_hash64(path, strlen(path)), o->info->incarnation);
    assert(c != NULL && c->fileset == NULL);
    w = c->waiters;
    c->waiters = NULL;
    if (code == KL_OK) {
        kl_count(s->q->m.filesets_opened, 1);
        o->took = *blk_fileset_opening(f);
        if (!o->job->aside)
            qr_cache_tally(s, &(struct blk_tally){ .index = o->took });
        blk_fileset_keep(f, &s->keep);
        c->fileset = f;                                /* the opening's reference */
        c->bytes = blk_fileset_memory(f) + sizeof *c;
        s->cache_bytes += c->bytes;
        s->cache_count++;
        list(s, c);
    } else {
        unchain(s, c);
        free(c);
        c = NULL;
    }
    while (w != NULL) {
        struct qr_open *next = w->next;
        struct qr_job  *j = w->job;

        w->code = code;
        w->err = err;
        w->fileset = code == KL_OK ? blk_fileset_ref(f) : NULL;
        w->done(w);
        qr_drop(j);
        w = next;
    }
    while (s->oldest != NULL && s->oldest != s->newest &&
           (s->cache_bytes > QR_FILESETS_BYTES_MAX || s->cache_count > QR_FILESETS_OPEN_MAX))
        evict(s, s->oldest);
}

static void open_work(struct kl_env_task *task)
{
    struct qr_open *o = kl_container_of(task, struct qr_open, task);
    char            path[BLK_PATH_MAX + 1];

    blk_fileset_path(o->info, path);
    o->fileset = NULL;
    o->code = KL_ENOENT;
    if (o->job->q->o.local != NULL)
        o->code = blk_fileset_open_local(o->job->q->o.local, path, &o->fileset, &o->err);
    if (o->code != KL_OK)                              /* not here any more, or not well here */
        o->code = blk_fileset_open_store(o->job->q->store, path, &o->fileset, &o->err);
    task->run = opened;
    o->job->q->env->sched->post(o->job->shard->loop, task);
}

void qr_open_start(struct qr_open *o)
{
    struct qr_shard  *s = o->job->shard;
    char              path[BLK_PATH_MAX + 1];
    uint64_t          hash;
    struct qr_cached *c;

    blk_fileset_path(o->info, path);
    hash = kl_hash64(path, strlen(path));
    if (s->cache == NULL)
        s->cache = kl_new(BUCKETS * sizeof *s->cache);
    c = find(s, path, hash, o->info->incarnation);
    assert(c == NULL || c->fileset == NULL);           /* the asker looked in the cache first */
    qr_hold(o->job);
    if (c != NULL) {
        o->next = c->waiters;
        c->waiters = o;
        return;
    }
    c = kl_new(sizeof *c);
    memcpy(c->path, path, sizeof path);
    c->hash = hash;
    c->incarnation = o->info->incarnation;
    c->chain = s->cache[hash & (BUCKETS - 1)];
    s->cache[hash & (BUCKETS - 1)] = c;
    o->next = NULL;
    c->waiters = o;
    o->task.run = open_work;
    s->q->env->sched->errand(s->q->env->sched, &o->task);
}
