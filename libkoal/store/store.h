#ifndef KL_STORE_H
#define KL_STORE_H
/*
 * Objects by key. Handed in. Keys are ours: path-like, [A-Za-z0-9_.=/-]+, 1..KL_STORE_KEY_MAX, no
 * empty part, no "." or "..". An object is put whole and never changes; put never replaces.
 *
 * Calls block and belong on a worker (env->sched->work), never on a loop; any thread, several at
 * once. KL_ENOENT: there is none. KL_EEXIST: put of a key that is there. KL_EAGAIN: the store asks
 * for patience or is out of reach, after bounded retries. KL_ECANCELED: after `cancel`. KL_EINVAL:
 * not a key. KL_EIO: anything else, with words. put is durable when it returns KL_OK; after a
 * failure the object is absent or whole, perhaps some time later only. A failed list may have
 * called `each` for some keys.
 *
 * What else lies in a bucket is not ours: list passes over keys that we would not choose.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/mem.h"
#include "libkoal/env/dir.h"
#include "libkoal/env/env.h"

enum { KL_STORE_KEY_MAX = 500 };

struct kl_store_tally {
    uint64_t disk_bytes;                               /* from the cache on disk */
    uint64_t store_bytes, requests;                    /* from the store, and in how many requests */
    uint64_t shared_bytes;                             /* that came with another's request */
};
/* The bytes of a large object that is put: read as they are wanted, piece by piece, some perhaps again. */
struct kl_store_feed {
    uint64_t size_bytes;
    enum kl_code (*read)(void *ctx, uint64_t offset, void *bytes, size_t size, struct kl_err *err);
    void *ctx;
};
struct kl_store {
    enum kl_code (*put)(struct kl_store *s, const char *key, struct kl_span bytes,
                        struct kl_err *err);
    /* The same from a feed, whose failure is the put's. NULL: only kl_store_put_from, in memory. */
    enum kl_code (*put_from)(struct kl_store *s, const char *key, const struct kl_store_feed *feed,
                             struct kl_err *err);
    /* Exactly size bytes at offset into `bytes`; a range past the end is KL_EIO. */
    enum kl_code (*get)(struct kl_store *s, const char *key, uint64_t offset, void *bytes,
                        size_t size, struct kl_err *err);
    /* The same, and adds to `t` where the bytes came from. NULL: all of them from the store itself. */
    enum kl_code (*get_tallied)(struct kl_store *s, const char *key, uint64_t offset, void *bytes,
                                size_t size, struct kl_store_tally *t, struct kl_err *err);
    enum kl_code (*head)(struct kl_store *s, const char *key, uint64_t *size_bytes,
                         struct kl_err *err);
    /* Every key with `prefix`, in bytewise order. */
    enum kl_code (*list)(struct kl_store *s, const char *prefix,
                         void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                         struct kl_err *err);
    enum kl_code (*remove)(struct kl_store *s, const char *key, struct kl_err *err); /* absent: OK */
    /* That range will be asked for soon: it may be fetched meanwhile. Returns at once. NULL: it is not. */
    void (*ahead)(struct kl_store *s, const char *key, uint64_t offset, size_t size);
    /* From now on calls end soon, those under way too. Any thread. NULL where none takes long. */
    void (*cancel)(struct kl_store *s);
    void (*close)(struct kl_store *s);                 /* no call is under way */
};
static inline void kl_store_cancel(struct kl_store *s)
{
    if (s != NULL && s->cancel != NULL)
        s->cancel(s);
}
static inline enum kl_code kl_store_get(struct kl_store *s, const char *key, uint64_t offset, void *bytes,
                                        size_t size, struct kl_store_tally *t, struct kl_err *err)
{
    enum kl_code code;

    if (s->get_tallied != NULL)
        return s->get_tallied(s, key, offset, bytes, size, t, err);
    code = s->get(s, key, offset, bytes, size, err);
    t->requests++;
    t->store_bytes += code == KL_OK ? size : 0;
    return code;
}
/* store_feed.c: in pieces where the store can, so that no more than one of them is in memory. */
enum kl_code kl_store_put_from(struct kl_store *s, const char *key, const struct kl_store_feed *feed,
                               struct kl_err *err);
bool kl_store_key_fit(const char *key);                /* store_key.c: is it one of ours? */

/* A folder: key "a/b/c" is file c in folders a/b. `dir` stays the caller's, and outlives it.
 * This one is for a folder that only this process puts objects into; */
struct kl_store *kl_store_dir_new(struct kl_env_dir *dir);
/* this one for any: what it writes aside has a name that no other process chooses. */
struct kl_store *kl_store_dir_shared_new(struct kl_env *env, struct kl_env_dir *dir);
/* The same for a folder on disk, made if absent; the store owns it. */
enum kl_code kl_store_dir_open(struct kl_env *env, const char *path, struct kl_store **s,
                               struct kl_err *err);

/*
 * A store that belongs to one cell. The first to write there puts KL_STORE_CELL_KEY, which names the
 * cell; before anything else is asked of the store that object is read, and where it names another
 * cell every call is KL_EINVAL, with words: two cells in one place would take each other's objects
 * for leftovers. Where the store is out of reach, the question is asked again by the next call.
 * `writes` false: only looks; an absent object is then no cell's, as yet.
 */
#define KL_STORE_CELL_KEY "catalogue/cell"
struct kl_store *kl_store_cell_new(struct kl_store *inner_take, const char *cell, bool writes);
/* Asks now: KL_OK, or what the next call would fail with. */
enum kl_code kl_store_cell_check(struct kl_store *s, struct kl_err *err);

/*
 * An S3 service, over HTTP (libcurl), requests signed with AWS Signature Version 4. Objects lie at
 * <prefix>/<key> of one bucket, which exists already.
 *
 * A request that fails by 5xx, 429, a reset or a timeout is sent again, at most `tries` times, after
 * ever longer waits of random length. Bodies carry their SHA-256, which the service checks. Objects
 * of more than `part_bytes` go up in parts. Whether a put replaces is for the service to watch
 * (If-None-Match: *), where it does: `conditional_put`; AUTO finds out, by putting the first small
 * object twice. Where not, and for objects in parts, the key is looked at before: enough for one
 * writer a key, as our leases have it. A put whose answer got
 * lost, and that is refused when sent again, recognises its own object by a random mark.
 */
struct kl_store_s3_keys { char access[132], secret[260]; char token[4096]; };   /* token "": none */
enum { KL_STORE_S3_PREFIX_MAX = 200, KL_STORE_S3_PART = 16 << 20, KL_STORE_S3_PART_MIN = 5 << 20 };
struct kl_log;
struct kl_metrics;
struct kl_store_s3_options {
    const char *endpoint;                              /* "https://host[:port]"; NULL: AWS' of `region` */
    const char *region, *bucket, *prefix;              /* prefix "" or "a/b" */
    bool        path_style;                            /* <endpoint>/<bucket>/<key>, else bucket.host */
    enum kl_store_s3_conditional { KL_STORE_S3_AUTO, KL_STORE_S3_ON, KL_STORE_S3_OFF } conditional_put;
    /* Files whose first line is it; read at open, and again when the service refuses what they held.
     * token_file may be NULL. With access_key_file NULL: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
     * AWS_SESSION_TOKEN of the environment. */
    const char *access_key_file, *secret_key_file, *token_file;
    const char *ca_file, *proxy;                       /* NULL: the system's CAs; no proxy */
    int64_t     connect_timeout_ms, stall_timeout_ms, timeout_ms;   /* each of one request; 0: default */
    unsigned    tries;                                 /* 0: 5 */
    uint64_t    part_bytes;                            /* 0: KL_STORE_S3_PART */
    unsigned    list_page;                             /* keys of a list at a time; 0: the service's */
    struct kl_log *log;
    struct kl_metrics *metrics;
};
/* Copies the options. KL_EINVAL with words; asks the service nothing. */
enum kl_code kl_store_s3_open(struct kl_env *env, const struct kl_store_s3_options *options,
                              struct kl_store **s, struct kl_err *err);
/* Uploads in parts below the prefix that were begun more than age_ms ago and never ended are abandoned, at
 * most a thousand; *count of them. Without a prefix none are: they may be others'. Only of a store that
 * kl_store_s3_open made. */
enum kl_code kl_store_s3_sweep(struct kl_store *s, int64_t age_ms, unsigned *count, struct kl_err *err);
/* The same over libs3, for services that know only Signature Version 2: no parts, regions, tokens, CA
 * file, proxy or conditional put. A cancel ends a request that hangs after at most 15 s. */
enum kl_code kl_store_s3v2_open(struct kl_env *env, const struct kl_store_s3_options *options,
                                struct kl_store **s, struct kl_err *err);

/*
 * A cache of objects' ranges in a folder of its own, which it locks and begins empty: pieces of at
 * most 64 KiB with their checksums, at most about bytes_max in all, the oldest going first. What is
 * missing of a range, and no more, comes in as few requests as it has gaps. Reads only: the rest is
 * passed on to `inner`, which stays the caller's and outlives it. A put-anew key (that no call here
 * removed) may be answered as it was: objects never change.
 */
enum kl_code kl_store_cache_open(struct kl_env *env, struct kl_store *inner, const char *path,
                                 uint64_t bytes_max, struct kl_log *log, struct kl_metrics *metrics,
                                 struct kl_store **s, struct kl_err *err);

/*
 * Gets that share: who asks for a range that lies in one that is on its way waits for that one. A get
 * that takes longer than nineteen of twenty of the last ones is put to `inner` once more, and the first
 * good answer counts; of a hundred at most `hedge_percent`, 0: none. `ahead` works: a few ranges that
 * were asked for so, of at most 2 MiB, are kept until they are. `inner` may be asked by any thread, and
 * stays the caller's; it has no call under way when this is closed. Adapters' threads: 32 at most.
 */
struct kl_store *kl_store_flights_new(struct kl_env *env, struct kl_store *inner, unsigned hedge_percent,
                                      struct kl_metrics *metrics);

/* ---- for tests: a store that misbehaves by seed. One thread. ---- */
struct kl_store_faults {                               /* the caller's; may be changed at any time */
    uint64_t seed;                                     /* moves on with each draw */
    unsigned before, after;                            /* of 1000 calls: fail without, with effect */
    unsigned cut, stale;                               /* gets and lists cut short; old lists */
    bool     down;                                     /* nothing answers */
    uint64_t count;                                    /* of faults so far */
};
/* Every failure is KL_EAGAIN. */
struct kl_store *kl_store_faulty_new(struct kl_store *inner_take, struct kl_store_faults *faults);
#endif
