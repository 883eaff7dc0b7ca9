#ifndef DM_COORDINATOR_H
#define DM_COORDINATOR_H
/*
 * The coordinator: keeps the placement table as the nodes of the cell want it (libtsproto/rebalance.h).
 * Every doorman has one; they all watch, and whoever holds the lease "lease.coordinator" acts. Acting is
 * one compare-and-set of the placement table at a time, so that two who both believed to hold the lease
 * would still not undo each other's step unseen. A coordinator that has no lease, or no KV, changes
 * nothing: the last table goes on working.
 *
 * It also deletes what nodes left in the KV that are no more (coordinator_keys.c).
 *
 * It also answers what operators ask of the cluster (coordinator_http.c): who is there, who has what, how
 * far behind; and takes their wishes, as marks in the KV (libtsproto/roster.h).
 *
 * Everything runs on one loop of its own. A crash leaves the KV as the last step made it.
 */
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/bus/bus.h"
#include "libkoal/env/env.h"
#include "doorman/doorman.h"
#include "libtsproto/roster.h"

struct dm_coordinator_options {
    const char *name;                                  /* of this doorman, for people; "" is fine */
    bool     manage;                                   /* false: watches and answers, never acts */
    uint32_t partitions;                               /* of a table that is made anew */
    unsigned replicas;                                 /* members wanted a partition */
    unsigned joins_at_once;
    int64_t  heartbeat_ms, silent_ms, gone_ms;
    int64_t  forget_ms;                                /* after that a node leaves nothing in the KV; 0: gone_ms */
    int64_t  split_delay_ms;                           /* from a split's decision to its beginning */
    struct kl_log *log;
    struct kl_metrics *metrics;                        /* may be NULL */
};
struct dm_coordinator;
struct dm_coordinator *dm_coordinator_new(struct kl_env *env, struct kl_bus *bus,
                                          const struct dm_coordinator_options *options);
/* After the bus is closed: a call under way has come back by then. */
void dm_coordinator_free(struct dm_coordinator *c);

/*
 * By how much most ingestors' clocks are ahead of this machine's, where that is far and they agree; else 0;
 * DM_CLOCK_UNKNOWN until most that are known were heard to agree with it, or all that there are. Nobody heard is no
 * evidence: a verdict lasts until there are some to compare with again, and one who starts and hears none does not
 * know, unless the placement is not managed, and so nobody registers. "Right" ends when the clock is set. Any thread; lives as
 * long as the coordinator.
 */
const _Atomic int64_t *dm_coordinator_clock_off(const struct dm_coordinator *c);

/* What a person wants to know of the cell, as lines of text; made on the coordinator's loop, where `done`
 * is called too. One at a time. `complete`: everything was seen that there is to see. */
struct dm_cluster_text {
    struct kl_buf out;                                 /* the caller frees it */
    bool complete;
    void (*done)(struct dm_cluster_text *t);
    struct kl_env_task task;
    struct dm_coordinator *c;
};
void dm_coordinator_text(struct dm_coordinator *c, struct dm_cluster_text *t);

/*
 * What would be missed if an ingestor went, of each that is known, by name. `members`: the partitions that the
 * table gives it; `alone`: those of them of which no other member is alive, has caught up and carries no mark.
 * Made on the coordinator's loop, where `done` is called too. `complete`: everything was seen that there is to see.
 */
struct dm_standing {
    char              name[TSP_NAME_MAX + 1];
    enum tsp_presence presence;
    enum tsp_mark     mark;
    bool              runs;                            /* its beat moves: also of one that was removed */
    unsigned          members, alone;
};
struct dm_standings {
    struct dm_standing all[TSP_NODES_MAX];
    unsigned count;
    bool complete;
    void (*done)(struct dm_standings *s);
    struct kl_env_task task;
    struct dm_coordinator *c;
};
void dm_coordinator_standings(struct dm_coordinator *c, struct dm_standings *s);

/*
 * Twice as many partitions: one compare-and-set of the table. Everybody must have room for them first
 * (`partitions` of the configuration): this doorman and all ingestors, who tell it with each heartbeat, are
 * looked at; another doorman without room refuses pushes. Streams of the log are made when they are first needed. Writers go by the new number split_delay_ms later, readers by both at once.
 * `done` runs on the coordinator's loop; KL_EINVAL, KL_EAGAIN with the sentence that says what to do.
 */
struct dm_split {
    uint32_t partitions;                               /* in: what there shall be, or 0; out */
    int64_t valid_from_ms;
    enum kl_code code;
    struct kl_err err;
    void (*done)(struct dm_split *s);
    struct kl_env_task task;
    struct dm_coordinator *c;
};
void dm_coordinator_split(struct dm_coordinator *c, struct dm_split *s);

/*
 * A wish that a member makes its state of a partition anew, from the catalogue and the log (ingestor/repair.c). `done`
 * runs on the coordinator's loop. KL_EINVAL: it is no member, or there is no such partition; KL_EEXIST: nobody else
 * has what it has; KL_EAGAIN, and what the KV says.
 */
struct dm_repair {
    uint32_t partition;                                /* in */
    char     node[TSP_NAME_MAX + 1];
    enum kl_code code;
    struct kl_err err;
    void (*done)(struct dm_repair *r);
    struct kl_bus_kv kv;
    struct kl_env_task task;
    struct dm_coordinator *c;
};
void dm_coordinator_repair(struct dm_coordinator *c, struct dm_repair *r);

/* The routes below /api/v1/koalemos/. Lives with the coordinator. */
struct kl_http_server;
struct dm_coordinator_http;
struct dm_coordinator_http *dm_coordinator_http_new(struct dm_coordinator *c,
                                                    struct kl_http_server *s);
void dm_coordinator_http_free(struct dm_coordinator_http *h);
#endif
