#ifndef KL_STORE_H
#define KL_STORE_H
/*
 * Objects by key. Handed in. Keys are ours: path-like, [A-Za-z0-9_.=/-]+, 1..KL_STORE_KEY_MAX, no
 * empty part, no "." or "..". An object is put whole and never changes; put never replaces.
 *
 * Calls block and belong on a worker (env->sched->work), never on a loop; any thread, several at
 * once. KL_ENOENT: there is none. KL_EEXIST: put of a key that is there. KL_EAGAIN: the store asks
 * for patience or is out of reach, after bounded retries. KL_EIO: anything else, with words.
 * put is durable when it returns KL_OK; after a failure the object is absent or whole.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/err.h"
#include "libkoal/base/mem.h"
#include "libkoal/env/dir.h"
#include "libkoal/env/env.h"

enum { KL_STORE_KEY_MAX = 500 };

struct kl_store {
    enum kl_code (*put)(struct kl_store *s, const char *key, struct kl_span bytes,
                        struct kl_err *err);
    /* Exactly size bytes at offset into `bytes`; a range past the end is KL_EIO. */
    enum kl_code (*get)(struct kl_store *s, const char *key, uint64_t offset, void *bytes,
                        size_t size, struct kl_err *err);
    enum kl_code (*head)(struct kl_store *s, const char *key, uint64_t *size_bytes,
                         struct kl_err *err);
    /* Every key with `prefix`, in bytewise order. */
    enum kl_code (*list)(struct kl_store *s, const char *prefix,
                         void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                         struct kl_err *err);
    enum kl_code (*remove)(struct kl_store *s, const char *key, struct kl_err *err); /* absent: OK */
    void (*close)(struct kl_store *s);
};

/* A folder: key "a/b/c" is file c in folders a/b. `dir` stays the caller's, and outlives it.
 * This one is for a folder that only this process puts objects into; */
struct kl_store *kl_store_dir_new(struct kl_env_dir *dir);
/* this one for any: what it writes aside has a name that no other process chooses. */
struct kl_store *kl_store_dir_shared_new(struct kl_env *env, struct kl_env_dir *dir);
#endif
