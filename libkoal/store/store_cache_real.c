/*
 * Ranges of objects, kept on local disk as they were asked for.
 *
 * What was fetched is appended to segment files in pieces of at most 64 KiB; the index of them is in
 * memory. Past the bound the oldest segment goes, with all that is in it. Nothing is ever synced, and
 * a start begins with an empty cache: what it holds can be fetched again, and each piece is read with
 * its checksum. A disk that fails, or is full, makes it useless for a while, never wrong.
 *
 * Objects are looked at in stripes of 1 MiB; the pieces of a stripe are a list by offset, none of
 * which overlap or reach beyond it. Blocks of fixed places were simpler, and fetched up to four times
 * what was needed where frames of 30 KiB lay far apart.
 *
 * One lock guards the index, the list of segments and the one that grows. Pieces are read outside it:
 * whoever reads holds the segment.
 */
#include "libkoal/store/folders.h"
#include "libkoal/store/store_over_priv.h"

#include "libkoal/base/hash.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 64 << 10, STRIPE = 1 << 20, RUN_MAX = 4 << 20 };
enum { SEGMENT_LEAST = 1 << 20, SEGMENT_MOST = 64 << 20, BUCKETS = 1 << 16 };
enum { REST_S = 60 };                                  /* seconds without a try, after the disk failed */

struct segment {
    struct kl_env_file *file;                          /* NULL: it grows no more */
    struct kl_env_view *view;
    char     name[24];
    uint64_t size;
    unsigned readers;
    bool     dropped;                                  /* from the list; the last reader closes it */
    struct piece   *pieces;
    struct segment *next;
};
struct piece {
    struct kl_fp    key;
    uint64_t        offset;                            /* in the object */
    struct segment *in;
    uint64_t        at;
    uint32_t        size, crc;
    struct piece   *chain, *beside;
};

struct cache {
    struct kl_store_over over;
    struct kl_env   *env;
    struct kl_env_dir *dir;
    struct kl_log   *log;
    uint64_t         bytes_max, segment_max;
    pthread_mutex_t  lock;
    struct piece   **buckets;
    struct segment  *oldest, *newest;
    uint64_t         bytes, names;
    int64_t          rest_until_ns;
    struct kl_metric own[6], *hits, *hit_bytes, *misses, *fetched, *bad, *held;
};

/* ---- the index; all of it under the lock ---- */

static struct piece **place(struct cache *c, struct kl_fp key, uint64_t stripe)
{
    return &c->buckets[(key.lo ^ stripe * 0x9e3779b97f4a7c15) >> 48 & (BUCKETS - 1)];
}

static bool is_of(const struct piece *p, struct kl_fp key, uint64_t stripe)
{
    return p->offset / STRIPE == stripe && kl_fp_cmp(p->key, key) == 0;
}

/* The piece that holds byte `at`, or NULL; *until: where what is known of it ends, within its stripe.
 * Pieces of one stripe are in the order of their offsets, among those of others in the bucket. */
static struct piece *find(struct cache *c, struct kl_fp key, uint64_t at, uint64_t *until)
{
    uint64_t stripe = at / STRIPE;

    *until = (stripe + 1) * STRIPE;
    for (struct piece *p = *place(c, key, stripe); p != NULL; p = p->chain) {
        if (!is_of(p, key, stripe) || p->offset + p->size <= at)
            continue;
        *until = p->offset <= at ? p->offset + p->size : p->offset;
        return p->offset <= at ? p : NULL;
    }
    return NULL;
}

static void unchain(struct cache *c, struct piece *p)
{
    struct piece **at = place(c, p->key, p->offset / STRIPE);

    while (*at != NULL && *at != p)
        at = &(*at)->chain;
    if (*at == p)
        *at = p->chain;
}

static void close_segment(struct cache *c, struct segment *s)
{
    while (s->pieces != NULL) {
        struct piece *b = s->pieces;

        s->pieces = b->beside;
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
    for (struct piece *b = s->pieces; b != NULL; b = b->beside)
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

/* One piece, of which the index has nothing. */
static bool append(struct cache *c, struct kl_fp key, uint64_t offset, const void *bytes, uint32_t size)
{
    struct piece **at = place(c, key, offset / STRIPE);
    struct kl_err  err;
    struct piece  *p;

    if (c->newest == NULL || c->newest->size + size > c->segment_max) {
        if (!begin_segment(c, &err)) {
            disk_failed(c, &err);
            return false;
        }
    }
    if (c->dir->append(c->newest->file, bytes, size, &err) != KL_OK) {
        disk_failed(c, &err);
        return false;
    }
    while (*at != NULL && !(is_of(*at, key, offset / STRIPE) && (*at)->offset > offset))
        at = &(*at)->chain;
    p = kl_new(sizeof *p);
    *p = (struct piece){ .key = key, .offset = offset, .in = c->newest, .at = c->newest->size,
                         .size = size, .crc = kl_crc32c(0, bytes, size), .chain = *at,
                         .beside = c->newest->pieces };
    *at = p;
    c->newest->pieces = p;
    c->newest->size += size;
    c->bytes += size;
    return true;
}

/* What is not there yet of [offset, offset + size). */
static void insert(struct cache *c, struct kl_fp key, uint64_t offset, const char *bytes, uint64_t size)
{
    uint64_t at = offset, end = offset + size, until;

    if (kl_env_mono_ns(c->env) < c->rest_until_ns)
        return;
    while (at < end) {
        bool there = find(c, key, at, &until) != NULL;

        until = until < end ? until : end;
        if (!there && until - at > PIECE)
            until = at + PIECE;
        if (!there && !append(c, key, at, bytes + (at - offset), (uint32_t)(until - at)))
            return;
        at = until;
    }
    while (c->bytes > c->bytes_max && c->oldest != c->newest)
        drop_oldest(c);
}

/* ---- get ---- */

struct wanted {
    const char  *key;
    struct kl_fp fp;
    uint64_t     offset, end;
    char        *out;
    struct kl_store_tally *tally;
};

/* The piece that holds byte `at`, from disk; false: it is not there, or not well. Else *at is behind it. */
static bool from_disk(struct cache *c, const struct wanted *w, uint64_t *at)
{
    struct piece   p, *found;
    struct kl_err  unheard;
    uint64_t       until;
    char           room[PIECE];
    bool           well;

    pthread_mutex_lock(&c->lock);
    found = find(c, w->fp, *at, &until);
    if (found != NULL) {
        p = *found;
        p.in->readers++;
    }
    pthread_mutex_unlock(&c->lock);
    if (found == NULL)
        return false;
    well = c->dir->view_read(p.in->view, p.at, room, p.size, &unheard) == KL_OK &&
           kl_crc32c(0, room, p.size) == p.crc;
    pthread_mutex_lock(&c->lock);
    found = well ? NULL : find(c, w->fp, *at, &until);
    if (found != NULL && found->in == p.in && found->at == p.at) {
        unchain(c, found);                             /* its segment frees it */
        kl_count(c->bad, 1);
    }
    release(c, p.in);
    pthread_mutex_unlock(&c->lock);
    if (!well)
        return false;
    until = p.offset + p.size < w->end ? p.offset + p.size : w->end;
    memcpy(w->out + (*at - w->offset), room + (*at - p.offset), until - *at);
    w->tally->disk_bytes += until - *at;
    kl_count(c->hits, 1);
    kl_count(c->hit_bytes, until - *at);
    *at = until;
    return true;
}

/* Where the gap that begins at `at` ends. */
static uint64_t gap_end(struct cache *c, const struct wanted *w, uint64_t at)
{
    uint64_t most = w->end - at < RUN_MAX ? w->end : at + RUN_MAX, end = at, until;

    pthread_mutex_lock(&c->lock);
    while (end < most && find(c, w->fp, end, &until) == NULL) {
        end = until;
        if (until % STRIPE != 0)                       /* a piece begins there */
            break;
    }
    pthread_mutex_unlock(&c->lock);
    return end < most ? end : most;
}

/* The gap from *at on, in one request. */
static enum kl_code from_store(struct cache *c, const struct wanted *w, uint64_t *at, struct kl_err *err)
{
    uint64_t     end = gap_end(c, w, *at);
    char        *out = w->out + (*at - w->offset);
    enum kl_code code;

    if (end == *at)                                    /* it has come meanwhile */
        return KL_OK;
    code = kl_store_get(c->over.inner, w->key, *at, out, end - *at, w->tally, err);
    if (code != KL_OK)
        return code;
    kl_count(c->misses, 1);
    kl_count(c->fetched, end - *at);
    pthread_mutex_lock(&c->lock);
    insert(c, w->fp, *at, out, end - *at);
    kl_gauge_set(c->held, (double)c->bytes);
    pthread_mutex_unlock(&c->lock);
    *at = end;
    return KL_OK;
}

static enum kl_code get_tallied(struct kl_store *store, const char *key, uint64_t offset, void *bytes,
                                size_t size, struct kl_store_tally *tally, struct kl_err *err)
{
    struct cache *c = (struct cache *)store;
    struct wanted w = { .key = key, .fp = kl_hash128(key, strlen(key)), .offset = offset,
                        .end = offset + size, .out = bytes, .tally = tally };
    enum kl_code  code = KL_OK;

    if (size == 0 || w.end < offset)
        return kl_store_get(c->over.inner, key, offset, bytes, size, tally, err);
    for (uint64_t at = offset; at < w.end && code == KL_OK; )
        if (!from_disk(c, &w, &at))
            code = from_store(c, &w, &at, err);
    return code;
}

static enum kl_code get(struct kl_store *store, const char *key, uint64_t offset, void *bytes,
                        size_t size, struct kl_err *err)
{
    struct kl_store_tally unasked = { 0 };

    return get_tallied(store, key, offset, bytes, size, &unasked, err);
}

/* ---- the others ---- */

/* A key may be put anew: its pieces go. They are looked for everywhere, since its size is not known. */
static enum kl_code remove_object(struct kl_store *store, const char *key, struct kl_err *err)
{
    struct cache *c = (struct cache *)store;
    struct kl_fp  fp = kl_hash128(key, strlen(key));

    pthread_mutex_lock(&c->lock);
    for (struct segment *s = c->oldest; s != NULL; s = s->next)
        for (struct piece *p = s->pieces; p != NULL; p = p->beside)
            if (kl_fp_cmp(p->key, fp) == 0)
                unchain(c, p);
    pthread_mutex_unlock(&c->lock);
    return c->over.inner->remove(c->over.inner, key, err);
}

/* Only what is wholly absent: a reader would ask for it as one. */
static void ahead(struct kl_store *store, const char *key, uint64_t offset, size_t size)
{
    struct cache *c = (struct cache *)store;
    struct wanted w = { .fp = kl_hash128(key, strlen(key)), .offset = offset, .end = offset + size };

    if (size > 0 && w.end > offset && c->over.inner->ahead != NULL && gap_end(c, &w, offset) == w.end)
        c->over.inner->ahead(c->over.inner, key, offset, size);
}

static void close_store(struct kl_store *store)
{
    struct cache *c = (struct cache *)store;

    while (c->oldest != NULL)
        drop_oldest(c);
    c->dir->leave(c->dir);
    pthread_mutex_destroy(&c->lock);
    free(c->buckets);
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

    return kl_env_dir_real_open(path, true, &dir, err) == KL_OK
         ? kl_store_cache_open_in(env, inner, dir, path, bytes_max, log, metrics, store, err) : kl_within(err, "cache");
}

enum kl_code kl_store_cache_open_in(struct kl_env *env, struct kl_store *inner, struct kl_env_dir *dir, const char *path,
                                    uint64_t bytes_max, struct kl_log *log, struct kl_metrics *metrics,
                                    struct kl_store **store, struct kl_err *err)
{
    struct left   l;
    struct cache *c;

    l.dir = dir;
    if (dir->lock(dir, err) != KL_OK || dir->list(dir, remove_left, &l, err) != KL_OK) {
        dir->leave(dir);
        return kl_within(err, "cache %s", path);
    }
    c = kl_new(sizeof *c);
    *c = (struct cache){ .env = env, .dir = dir, .log = log,
                         .bytes_max = bytes_max, .segment_max = bytes_max / 8,
                         .buckets = kl_new(BUCKETS * sizeof(struct piece *)) };
    if (c->segment_max < SEGMENT_LEAST)
        c->segment_max = SEGMENT_LEAST;
    if (c->segment_max > SEGMENT_MOST)
        c->segment_max = SEGMENT_MOST;
    pthread_mutex_init(&c->lock, NULL);
    c->hits = metric(metrics, &c->own[0], KL_COUNTER, "koalemos_store_cache_hits_total",
                     "Pieces of objects read from the cache on disk.");
    c->hit_bytes = metric(metrics, &c->own[5], KL_COUNTER, "koalemos_store_cache_hit_bytes_total",
                          "Bytes of objects read from the cache on disk.");
    c->misses = metric(metrics, &c->own[1], KL_COUNTER, "koalemos_store_cache_misses_total",
                       "Times that something of an object was not in the cache on disk, and was fetched.");
    c->fetched = metric(metrics, &c->own[2], KL_COUNTER, "koalemos_store_cache_fetched_bytes_total",
                        "Bytes fetched from the object storage for them.");
    c->bad = metric(metrics, &c->own[3], KL_COUNTER, "koalemos_store_cache_bad_total",
                    "Pieces of the cache on disk that could not be read as they were written.");
    c->held = metric(metrics, &c->own[4], KL_GAUGE, "koalemos_store_cache_bytes",
                     "Bytes in the cache on disk.");
    kl_store_over_init(&c->over, inner);
    c->over.store.get = get;
    c->over.store.get_tallied = get_tallied;
    c->over.store.remove = remove_object;
    c->over.store.ahead = ahead;
    c->over.store.close = close_store;
    *store = &c->over.store;
    return KL_OK;
}
