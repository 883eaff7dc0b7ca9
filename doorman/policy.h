#ifndef DM_POLICY_H
#define DM_POLICY_H
/*
 * What holds for a tenant: its limits, its relabelling, its HA pairs. Read out of a configuration: one
 * policy for all, and one for each tenant of whom it says something. Immutable, any thread; another
 * configuration makes other policies (reload.h), and who holds these keeps them.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/config.h"
#include "libkoal/base/mem.h"
#include "libkoal/base/relabel.h"
#include "libkoal/env/box.h"

/* 0 where it says so: no bound. Times are judged by the doorman's clock. */
struct dm_limits {
    uint32_t label_count_max, name_bytes_max, value_bytes_max;
    uint64_t body_bytes_max, inflated_bytes_max;       /* as sent, and unpacked */
    int64_t  past_ms, future_ms;                       /* samples older or newer are refused; 0 */
    uint64_t inflight_bytes_max;                       /* of pushes not yet answered; a doorman's; 0 */
    uint64_t samples_per_push_max;                     /* more of one push are refused; 0 */
    double   samples_per_s, burst_samples;             /* of all doormen together; 0 */
    uint64_t series_max;                               /* active, of all doormen together; 0 */
};
struct dm_policy {
    struct dm_limits limits;
    const struct kl_relabel *relabel;                  /* NULL: no rules */
    const char *relabel_text;                          /* as the configuration has them; or NULL */
    bool ha;                                           /* of two replicas of a cluster one is taken */
    struct kl_span ha_cluster, ha_replica;             /* the labels */
    int64_t  ha_failover_ms;
    uint32_t ha_clusters_max;
};

struct dm_policies;
/* `config` may be NULL: then `all` holds for everyone; else they hold it. One reference, the caller's. */
struct dm_policies *dm_policies_new(const struct kl_config *config, const struct dm_limits *all);
void dm_policies_free(struct dm_policies *p);          /* lets it go */
struct kl_env_held *dm_policies_held(struct dm_policies *p);
struct dm_policies *dm_policies_of_held(struct kl_env_held *h);
/* Would a series that passed under one pass under the other, and come out as the same? */
bool dm_policy_reads_alike(const struct dm_policy *a, const struct dm_policy *b);
/* Lives as long as `p`. */
const struct dm_policy *dm_policy_of(const struct dm_policies *p, struct kl_span tenant);
bool dm_policies_ha(const struct dm_policies *p);      /* is there a tenant with HA pairs? */
/* The largest body that some tenant may send. */
uint64_t dm_policies_body_max(const struct dm_policies *p);

/* One configuration's limits, with what is left open filled in. Pure. */
void dm_limits_read(const struct kl_config *c, struct dm_limits *l);
#endif
