#ifndef KL_STORE_FOLDERS_H
#define KL_STORE_FOLDERS_H
/*
 * Stores over folders that were opened elsewhere, encrypted or not: what store.h says of the same over a path.
 */
#include "libkoal/store/store.h"

struct kl_log;
struct kl_metrics;

/* Leaves the folder when it is closed. */
struct kl_store *kl_store_dir_owning_new(struct kl_env *env, struct kl_env_dir *dir_take);
/* `path` for sentences alone. The folder is taken, also by a failure. */
enum kl_code kl_store_cache_open_in(struct kl_env *env, struct kl_store *inner, struct kl_env_dir *dir_take, const char *path,
                                    uint64_t bytes_max, struct kl_log *log, struct kl_metrics *metrics,
                                    struct kl_store **s, struct kl_err *err);
#endif
