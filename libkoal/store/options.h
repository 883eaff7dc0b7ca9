#ifndef KL_STORE_OPTIONS_H
#define KL_STORE_OPTIONS_H
/*
 * The object storage as the configuration describes it: store.url, or store.dir, and store.s3.*.
 */
#include "libkoal/base/config.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/crypt/keys.h"
#include "libkoal/store/store.h"

struct kl_store_options {
    enum { KL_STORE_NONE, KL_STORE_DIR, KL_STORE_S3 } kind;
    const char *path;                                  /* of a folder */
    bool        v2;                                    /* how S3 requests are signed */
    char        bucket[64], prefix[KL_STORE_S3_PREFIX_MAX + 1];
    struct kl_store_s3_options s3;                     /* bucket and prefix point at those above */
    const char *cell;
};
/* Pure. KL_EINVAL with words. The texts are the config's; `o` stays where it is. */
enum kl_code kl_store_options_read(const struct kl_config *c, struct kl_store_options *o,
                                   struct kl_err *err);

struct kl_store_place {
    struct kl_env     *env;
    const struct kl_config *config;
    struct kl_env_dir *local;                          /* where the config names none; NULL: it must */
    struct kl_keys    *keys;                           /* of encryption.keys, by which folders are; or NULL */
    struct kl_keys    *store_key;                      /* of store.encryption_key, by which objects are; or NULL */
    bool               writes;                         /* false: this process only reads */
    struct kl_log     *log;
    struct kl_metrics *metrics;
};
/* A folder `name` of the data folder `data` for a store: where a key encrypts its objects one by one, it is entered as
 * it lies, else as `data` is. */
enum kl_code kl_store_local(const struct kl_keys *store_key, struct kl_env_dir *data, const char *name, bool make,
                            struct kl_env_dir **dir, struct kl_err *err);
/* The store that the config names, bound to its cell. A folder is encrypted by `keys`, but for one whose objects
 * are, by `store_key`. What cannot be (no bucket, wrong keys, another
 * cell's data) is refused, in a sentence; a service out of reach is not: then only the log says so,
 * and calls fail with KL_EAGAIN until it is back. Blocks. */
enum kl_code kl_store_open(const struct kl_store_place *place, struct kl_store **s,
                           struct kl_err *err);
/* Another place than that, of no cell: a folder, or s3://bucket/prefix, reached as store.s3.* says. `writes`: a
 * folder is made if need be. `as_ours`: where a key is named it is encrypted by that, too, so that what is copied
 * there does not lie open; KL_EINVAL where it is not. Blocks. */
enum kl_code kl_store_open_at(const struct kl_store_place *place, const char *where, bool as_ours,
                              struct kl_store **s, struct kl_err *err);
/* The store is encrypted, and opens from now on with the key in that file instead of
 * `store_key`. No object is written anew but the one that holds the store's key. */
enum kl_code kl_store_rewrap(const struct kl_store_place *place, const char *new_key_file, struct kl_err *err);
/* Before it, for who answers queries: gets that share and hedge (NULL: it is a folder), and before them a
 * cache on disk: in store.cache.dir, or, where that is not set and the store is no folder, in `fallback`
 * (NULL: there is none). *s NULL: no cache. To be closed in the order cache, flights, `inner`; also after
 * a failure. */
enum kl_code kl_store_open_cache(const struct kl_store_place *place, struct kl_store *inner,
                                 const char *fallback, struct kl_store **flights, struct kl_store **s,
                                 struct kl_err *err);
#endif
