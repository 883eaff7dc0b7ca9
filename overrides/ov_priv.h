#ifndef OV_PRIV_H
#define OV_PRIV_H
/* Between the files of overrides. All of it on the ov's loop. */
#include <stdatomic.h>

#include "overrides/overrides.h"

struct ov_entry {
    char     key[sizeof TSP_OVERRIDE_PREFIX + 32];
    uint64_t revision, version;
    int64_t  time_ms;
    char    *tenant, *by, *all;
    size_t   tenant_size, by_size, all_size;
    bool     says;                                     /* something: not "{}" */
};
struct ov {
    struct kl_env *env;
    struct kl_bus *bus;
    struct ov_options options;
    struct kl_env_loop *loop;
    struct kl_env_task  begin, end;
    struct kl_env_timer soon;
    struct kl_bus_watch watch;
    struct ov_entry *entries; size_t count, room;      /* by key */
    size_t   bytes;                                    /* of tenants and what is said of them */
    uint64_t revision;                                 /* the highest seen */
    uint64_t deletions;                                /* that the watch has told */
    bool     watching, dirty;
    _Atomic bool known;
    struct kl_metric *tenants_gauge, *revision_gauge, *refused;
    struct kl_metric unseen;
};

/* ---- watch.c ---- */
struct ov_entry *ov_find(struct ov *o, const char *key);       /* or NULL */
/* The state of a key at a revision; value.at NULL: there is none. An older one than is known is no news. */
void ov_see(struct ov *o, const char *key, struct kl_span value, uint64_t revision);
void ov_apply(struct ov *o);                           /* puts what was seen into force, if there is news */
#endif
