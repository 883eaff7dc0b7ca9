/*
 * Ranges of objects, kept on local disk in blocks of 64 KiB.
 *
 * Blocks are appended to segment files; the index of them is in memory. Past the bound the oldest
 * segment goes, with all that is in it. Nothing is ever synced, and a start begins with an empty
 * cache: what it holds can be fetched again, and each block is read with its checksum. A disk that
 * fails, or is full, makes it useless for a while, never wrong.
 *
 * One lock guards the index, the list of segments and the one that grows. Blocks are read outside it:
 * whoever reads holds the segment.
 */
#include "libkoal/store/store.h"

#include "libkoal/base/hash.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64 << 10, SEGMENT_LEAST = 1 << 20, SEGMENT_MOST = 64 << 20, BUCKETS = 1 << 16, SIZES = 1 << 16, RUN_MAX = 64 };
enum { REST_S = 60 };                                  /* seconds without a try, after the disk failed */

struct segment {
    struct kl_env_file *file;                          /* NULL: it grows no more */
    struct kl_env_view *view;
    char     name[24];
    uint64_t size;
    unsigned readers;
    bool     dropped;                                  /* from the list; the last reader closes it */
    struct block   *blocks;
    struct segment *next;
};
struct block {
    struct kl_fp   key;
    uint64_t       number;
    struct segment *in;
    uint64_t       at;
    uint32_t       size, crc;
    struct block  *chain, *beside;
};
struct size_of { struct kl_fp key; uint64_t size; bool known; };       /* of an object; the newest wins */

struct cache {
    struct kl_store  store;
    struct kl_store *inner;
    struct kl_env   *env;
    struct kl_env_dir *dir;
    struct kl_log   *log;
    uint64_t         bytes_max, segment_max;
    pthread_mutex_t  lock;
    struct block   **buckets;
    struct size_of  *sizes;
    struct segment  *oldest, *newest;
    uint64_t         bytes, names;
    int64_t          rest_until_ns;
    struct kl_metric own[5], *hits, *misses, *fetched, *bad, *held;
};

/* ---- the index; all of it under the lock ---- */

static struct block **place(struct cache *c, struct kl_fp key, uint64_t number)
{
    return &c->buckets[(key.lo ^ number * 0x9e3779b97f4a7c15) >> 48 & (BUCKETS - 1)];
}

static struct block *find(struct cache *c, struct kl_fp key, uint64_t number)
{
    for (struct block *b = *place(c, key, number); b != NULL; b = b->chain)
        if (b->number == number && kl_fp_cmp(b->key, key) == 0)
            return b;
    return NULL;
}

static void unchain(struct cache *c, struct block *b)
{
    struct block **at = place(c, b->key, b->number);

    while (*at != NULL && *at != b)
        at = &(*at)->chain;
    if (*at == b)
        *at = b->chain;
}

static void close_segment(struct cache *c, struct segment *s)
{
    while (s->blocks != NULL) {
        struct block *b = s->blocks;

        s->blocks = b->beside;
        free(b);
    }
    if (s->file != NULL)
        c->dir->close(s->file);
    if (s->view != NULL)
        c->dir->view_close(s->view);
    free(s);
}

static void drop_oldest(struct cache *c)
{
    struct segment *s = c->oldest;
    struct kl_err   unheard;

    c->oldest = s->next;
    if (c->oldest == NULL)
        c->newest = NULL;
    for (struct block *b = s->blocks; b != NULL; b = b->beside)
        unchain(c, b);
    c->bytes -= s->size;
    c->dir->remove(c->dir, s->name, &unheard);         /* it stays readable while it is held */
    s->dropped = true;
    if (s->readers == 0)
        close_segment(c, s);
}

static void release(struct cache *c, struct segment *s)
{
    if (--s->readers == 0 && s->dropped)
        close_segment(c, s);
}

static void disk_failed(struct cache *c, const struct kl_err *err)
{
    kl_logf(c->log, KL_WARN, "store: the cache on disk is emptied and rests for a minute: %s", err->text);
    c->rest_until_ns = kl_env_mono_ns(c->env) + REST_S * INT64_C(1000000000);
    while (c->oldest != NULL)
        drop_oldest(c);
}

static bool begin_segment(struct cache *c, struct kl_err *err)
{
    struct segment *s = kl_new(sizeof *s);
    uint64_t        size;

    snprintf(s->name, sizeof s->name, "%020" PRIu64, ++c->names);
    if (c->dir->create(c->dir, "next.tmp", &s->file, err) != KL_OK) {
        free(s);
        return false;
    }
    if (c->dir->publish(s->file, s->name, err) != KL_OK ||
        c->dir->view(c->dir, s->name, &s->view, &size, err) != KL_OK) {
        close_segment(c, s);
        return false;
    }
    if (c->newest != NULL && c->newest->file != NULL) {
        c->dir->close(c->newest->file);
        c->newest->file = NULL;
    }
    *(c->newest != NULL ? &c->newest->next : &c->oldest) = s;
    c->newest = s;
    return true;
}

static void insert(struct cache *c, struct kl_fp key, uint64_t number, const void *bytes,
                   uint32_t size)
{
    struct kl_err err;
    struct block *b;

    if (find(c, key, number) != NULL || kl_env_mono_ns(c->env) < c->rest_until_ns)
        return;
    if (c->newest == NULL || c->newest->size + size > c->segment_max) {
        if (!begin_segment(c, &err)) {
            disk_failed(c, &err);
            return;
        }
    }
    if (c->dir->append(c->newest->file, bytes, size, &err) != KL_OK) {
        disk_failed(c, &err);
        return;
    }
    b = kl_new(sizeof *b);
    *b = (struct block){ .key = key, .number = number, .in = c->newest, .at = c->newest->size,
                         .size = size, .crc = kl_crc32c(0, bytes, size),
                         .chain = *place(c, key, number), .beside = c->newest->blocks };
    *place(c, key, number) = b;
    c->newest->blocks = b;
    c->newest->size += size;
    c->bytes += size;
    while (c->bytes > c->bytes_max && c->oldest != c->newest)
        drop_oldest(c);
}

/* ---- sizes of objects: they never change ---- */

static void note_size(struct cache *c, struct kl_fp key, uint64_t size)
{
    pthread_mutex_lock(&c->lock);
    c->sizes[key.hi & (SIZES - 1)] = (struct size_of){ key, size, true };
    pthread_mutex_unlock(&c->lock);
}

static enum kl_code size_of(struct cache *c, const char *key, struct kl_fp fp, uint64_t *size,
                            struct kl_err *err)
{
    struct size_of s;
    enum kl_code   code;

    pthread_mutex_lock(&c->lock);
    s = c->sizes[fp.hi & (SIZES - 1)];
    pthread_mutex_unlock(&c->lock);
    if (s.known && kl_fp_cmp(s.key, fp) == 0) {
        *size = s.size;
        return KL_OK;
    }
    code = c->inner->head(c->inner, key, size, err);
    if (code == KL_OK)
        note_size(c, fp, *size);
    return code;
}

/* ---- get ---- */

struct wanted {
    const char *key;
    struct kl_fp fp;
    uint64_t offset, size, whole;
    char    *out;
};

/* What of `bytes`, which are [at, at + size) of the object, was asked for. */
static void hand_out(const struct wanted *w, uint64_t at, const char *bytes, uint64_t size)
{
    uint64_t from = at > w->offset ? at : w->offset;
    uint64_t to = at + size < w->offset + w->size ? at + size : w->offset + w->size;

    if (from < to)
        memcpy(w->out + (from - w->offset), bytes + (from - at), to - from);
}

/* The block from disk; false: it is not there, or not well. */
static bool from_disk(struct cache *c, const struct wanted *w, uint64_t number, char *room)
{
    struct block    b;
    struct block   *found;
    struct kl_err   unheard;
    bool            well;

    pthread_mutex_lock(&c->lock);
    found = find(c, w->fp, number);
    if (found != NULL) {
        b = *found;
        b.in->readers++;
    }
    pthread_mutex_unlock(&c->lock);
    if (found == NULL)
        return false;
    well = c->dir->view_read(b.in->view, b.at, room, b.size, &unheard) == KL_OK &&
           kl_crc32c(0, room, b.size) == b.crc;
    pthread_mutex_lock(&c->lock);
    if (!well && (found = find(c, w->fp, number)) != NULL && found->in == b.in && found->at == b.at) {
        unchain(c, found);                             /* its segment frees it */
        kl_count(c->bad, 1);
    }
    release(c, b.in);
    pthread_mutex_unlock(&c->lock);
    if (!well)
        return false;
    hand_out(w, number * BLOCK, room, b.size);
    kl_count(c->hits, 1);
    return true;
}

static bool is_there(struct cache *c, const struct wanted *w, uint64_t number)
{
    bool there;

    pthread_mutex_lock(&c->lock);
    there = find(c, w->fp, number) != NULL;
    pthread_mutex_unlock(&c->lock);
    return there;
}

/* Blocks [first, first + count) in one request. */
static enum kl_code from_store(struct cache *c, const struct wanted *w, uint64_t first, uint64_t count,
                               char *room, struct kl_err *err)
{
    uint64_t     at = first * BLOCK, end = at + count * BLOCK;
    enum kl_code code;

    end = end < w->whole ? end : w->whole;
    code = c->inner->get(c->inner, w->key, at, room, end - at, err);
    if (code != KL_OK)
        return code;
    hand_out(w, at, room, end - at);
    kl_count(c->misses, count);
    kl_count(c->fetched, end - at);
    pthread_mutex_lock(&c->lock);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t left = end - at - i * BLOCK;

        insert(c, w->fp, first + i, room + i * BLOCK, (uint32_t)(left < BLOCK ? left : BLOCK));
    }
    kl_gauge_set(c->held, (double)c->bytes);
    pthread_mutex_unlock(&c->lock);
    return KL_OK;
}

static enum kl_code get(struct kl_store *store, const char *key, uint64_t offset, void *bytes,
                        size_t size, struct kl_err *err)
{
    struct cache *c = (struct cache *)store;
    struct wanted w = { .key = key, .fp = kl_hash128(key, strlen(key)), .offset = offset,
                        .size = size, .out = bytes };
    uint64_t      last;
    char         *room;
    enum kl_code  code = size_of(c, key, w.fp, &w.whole, err);

    if (code != KL_OK)
        return code;
    if (size == 0 || offset > w.whole || size > w.whole - offset)
        return c->inner->get(c->inner, key, offset, bytes, size, err);
    last = (offset + size - 1) / BLOCK;
    room = malloc((size_t)RUN_MAX * BLOCK);
    if (room == NULL)
        return c->inner->get(c->inner, key, offset, bytes, size, err);
    for (uint64_t i = offset / BLOCK; i <= last && code == KL_OK; ) {
        uint64_t n = 1;

        if (from_disk(c, &w, i, room)) {
            i++;
            continue;
        }
        while (n < RUN_MAX && i + n <= last && !is_there(c, &w, i + n))
            n++;
        code = from_store(c, &w, i, n, room, err);
        i += n;
    }
    free(room);
    return code;
}

/* ---- the others ---- */

static enum kl_code head(struct kl_store *store, const char *key, uint64_t *size_bytes,
                         struct kl_err *err)
{
    struct cache *c = (struct cache *)store;
    enum kl_code  code = c->inner->head(c->inner, key, size_bytes, err);

    if (code == KL_OK)
        note_size(c, kl_hash128(key, strlen(key)), *size_bytes);
    return code;
}

static enum kl_code put(struct kl_store *store, const char *key, struct kl_span bytes,
                        struct kl_err *err)
{
    struct cache *c = (struct cache *)store;

    return c->inner->put(c->inner, key, bytes, err);
}

static enum kl_code list(struct kl_store *store, const char *prefix,
                         void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                         struct kl_err *err)
{
    struct cache *c = (struct cache *)store;

    return c->inner->list(c->inner, prefix, each, ctx, err);
}

/* A key may be put anew: its blocks go, and what is known of its size. */
static enum kl_code remove_object(struct kl_store *store, const char *key, struct kl_err *err)
{
    struct cache *c = (struct cache *)store;
    struct kl_fp  fp = kl_hash128(key, strlen(key));
    uint64_t      size = 0;
    struct kl_err unheard;
    bool          known = size_of(c, key, fp, &size, &unheard) == KL_OK;

    pthread_mutex_lock(&c->lock);
    c->sizes[fp.hi & (SIZES - 1)] = (struct size_of){ 0 };
    for (uint64_t i = 0; known && i * BLOCK < size; i++) {
        struct block *b = find(c, fp, i);
        if (b != NULL)
            unchain(c, b);
    }
    pthread_mutex_unlock(&c->lock);
    return c->inner->remove(c->inner, key, err);
}

static void cancel(struct kl_store *s) { kl_store_cancel(((struct cache *)s)->inner); }

static void close_store(struct kl_store *store)
{
    struct cache *c = (struct cache *)store;

    while (c->oldest != NULL)
        drop_oldest(c);
    c->dir->leave(c->dir);
    pthread_mutex_destroy(&c->lock);
    free(c->buckets);
    free(c->sizes);
    free(c);
}

/* ---- opening ---- */

struct left { struct kl_env_dir *dir; struct kl_err err; };

static void remove_left(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct left *l = ctx;

    (void)size_bytes;
    if (!is_dir && ((strlen(name) == 20 && strspn(name, "0123456789") == 20) || strcmp(name, "next.tmp") == 0))
        l->dir->remove(l->dir, name, &l->err);
}

static struct kl_metric *metric(struct kl_metrics *m, struct kl_metric *own, enum kl_metric_kind kind,
                                const char *name, const char *help)
{
    return m == NULL ? own : kl_metrics_add(m, kind, name, "", help);
}

enum kl_code kl_store_cache_open(struct kl_env *env, struct kl_store *inner, const char *path,
                                 uint64_t bytes_max, struct kl_log *log, struct kl_metrics *metrics,
                                 struct kl_store **store, struct kl_err *err)
{
    struct kl_env_dir *dir;
    struct left        l;
    struct cache      *c;

    if (kl_env_dir_real_open(path, true, &dir, err) != KL_OK)
        return kl_within(err, "cache");
    l.dir = dir;
    if (dir->lock(dir, err) != KL_OK || dir->list(dir, remove_left, &l, err) != KL_OK) {
        dir->leave(dir);
        return kl_within(err, "cache %s", path);
    }
    c = kl_new(sizeof *c);
    *c = (struct cache){ .inner = inner, .env = env, .dir = dir, .log = log,
                         .bytes_max = bytes_max, .segment_max = bytes_max / 8,
                         .buckets = kl_new(BUCKETS * sizeof(struct block *)),
                         .sizes = kl_new(SIZES * sizeof(struct size_of)) };
    if (c->segment_max < SEGMENT_LEAST)
        c->segment_max = SEGMENT_LEAST;
    if (c->segment_max > SEGMENT_MOST)
        c->segment_max = SEGMENT_MOST;
    pthread_mutex_init(&c->lock, NULL);
    c->hits = metric(metrics, &c->own[0], KL_COUNTER, "koalemos_store_cache_hits_total",
                     "Blocks of objects read from the cache on disk.");
    c->misses = metric(metrics, &c->own[1], KL_COUNTER, "koalemos_store_cache_misses_total",
                       "Blocks of objects that the cache on disk did not have.");
    c->fetched = metric(metrics, &c->own[2], KL_COUNTER, "koalemos_store_cache_fetched_bytes_total",
                        "Bytes fetched from the object storage for them.");
    c->bad = metric(metrics, &c->own[3], KL_COUNTER, "koalemos_store_cache_bad_total",
                    "Blocks of the cache on disk that could not be read as they were written.");
    c->held = metric(metrics, &c->own[4], KL_GAUGE, "koalemos_store_cache_bytes",
                     "Bytes in the cache on disk.");
    c->store = (struct kl_store){ .put = put, .get = get, .head = head, .list = list,
                                  .remove = remove_object, .cancel = inner->cancel != NULL ? cancel : NULL,
                                  .close = close_store };
    *store = &c->store;
    return KL_OK;
}
