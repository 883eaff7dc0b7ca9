#ifndef ING_INGESTOR_H
#define ING_INGESTOR_H
/*
 * The ingestor: reads its partitions' logs in order, keeps recent series in memory, cuts windows
 * into filesets, puts them in the store and the catalogue, and answers selects about what it holds.
 *
 * One ing_partition is one state machine on one loop; an ingestor spreads its partitions over a few
 * loops. Nothing is acknowledged here: what the log holds is the truth, and a restart replays from
 * the catalogue's `replay_from`. Flushes run as work on immutable sealed series; the loop goes on.
 *
 * Files in `dir`: filesets/<tenant>/<pppp>/<start>-<id>/ (libblock/fileset.h).
 * A crash leaves: whole filesets, or folders without a checkpoint that the next start removes. A
 * fileset that is not in the catalogue is uploaded again or replaced: the log still has its samples.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/bus/bus.h"
#include "libkoal/env/dir.h"
#include "libkoal/env/env.h"
#include "libkoal/env/live.h"
#include "libkoal/store/store.h"

struct ing_options {                                   /* what is _Atomic may change while it runs */
    const char *name;                                  /* this ingestor, in the placement table */
    unsigned loops;                                    /* 0: one */
    uint32_t partitions;                               /* P */
    int64_t  window_ms;                                /* 2 h */
    int64_t  cut_delay_ms;                             /* a window is cut this long after its end; 10 min */
    int64_t  log_keep_ms;                              /* purge nothing younger; 6 h, 0 locally */
    _Atomic uint64_t memory_max_bytes;                 /* of the heads together; past it: early flush */
    uint64_t spread_series;                            /* a metric with more in a partition is told of; 0 */
    int64_t  spread_window_ms, census_ms;              /* series seen within count; how often they are */
    int64_t  retention_ms;                             /* 0: for ever; where config does not say */
    int64_t  compact_window_ms;                        /* filesets are merged into these; the same */
    _Atomic uint32_t compact_files;                    /* so many small ones are worth a merge */
    _Atomic uint64_t compact_bytes_max;                /* of what is merged at once; 0: nothing is */
    const char *retention_rules;                       /* libkoal/base/retention.h; NULL: none. As retention_ms */
    int64_t  rollup_ms[2];                             /* of 5 minutes, an hour: kept so long; 0: none is made */
    _Atomic int64_t deletion_ms;                              /* rewriting of what was deleted begins after */
    int64_t  local_retention_ms;                       /* filesets stay here besides, by their samples; 0: none */
    _Atomic int64_t orphans_ms;                        /* in the store, nothing names them: removed after; 0: never */
    _Atomic int64_t snapshot_ms;                       /* a partition's snapshot is made that often; 0: never */
    _Atomic uint64_t snapshot_samples;                 /* or after so many; 0: only by time */
    int64_t  stored_ms;                                /* the owner puts one into the store that often; 0: never, none is taken */
    uint64_t spill_least_bytes;                        /* sealed chunks leave memory once there are so many */
    _Atomic unsigned pushdown_max;                     /* aggregates made at once for queriers; 0: none is */
    _Atomic uint64_t pushdown_memory_max_bytes;        /* of each of them */
    uint32_t repairs_per_hour;                         /* by itself, of a partition: repair.c; 0: none. Up to 10 */
    bool no_repeats;                                   /* the log never has a record twice: see digest.c */
    _Atomic int disk_high_percent, disk_low_percent;   /* of the data folder's disk; 0: no mark */
    const struct kl_config *config;                    /* for what is per tenant; may be NULL */
    struct kl_env_live *live;                          /* not NULL: instead of config, and what is _Atomic
                                                          above follows it; outlives the ingestor */
    struct kl_log *log;
    struct kl_metrics *metrics;
    struct kl_tracer *tracer;                          /* may be NULL */
};
/* As a member of a cell (ingestor/member.h): registered, with leases; members are then given partitions by
 * the coordinator. */
struct ing_cluster_options {
    const char *zone, *address, *version;
    uint32_t    capacity;
    int64_t     heartbeat_ms, silent_ms, gone_ms;
};
struct ing_ingestor;
/* Watches the placement table and serves the partitions it assigns to `name`. */
struct ing_ingestor *ing_new(struct kl_env *env, struct kl_bus *bus, struct kl_env_dir *dir,
                             struct kl_store *store, const struct ing_options *options);
/* Once, right after ing_new, where there is a cell. Without it this ingestor owns what the table assigns
 * to it. The id of the disk is kept in `dir`/NODE. */
enum kl_code ing_join(struct ing_ingestor *i, const struct ing_cluster_options *options,
                      struct kl_err *err);
/* Gives back its leases, so that others go on at once; then `done`, on some loop. At the end of a process,
 * while the bus is open; does nothing where it has not joined, and calls done. */
void ing_leave(struct ing_ingestor *i, void (*done)(void *ctx), void *ctx);
void ing_free(struct ing_ingestor *i);                 /* stops; flushes nothing: the log has it */
/* Every partition has caught up with its log's end as of the start? err has the words. */
bool ing_ready(struct ing_ingestor *i, struct kl_err *err);

/* Cut everything now, in all of its partitions: done when all are in the catalogue. */
struct ing_flush {
    struct kl_env_loop *loop; void (*done)(struct ing_flush *f); void *ctx;
    enum kl_code code; struct kl_err err; uint32_t fileset_count;
    bool clean;                                        /* no cut: deletions are rewritten now */
    struct kl_env_task task; uint32_t left;
};
/* `clean`: done when no fileset that can be read has what a deletion before this call hides. */
void ing_flush(struct ing_ingestor *i, struct ing_flush *f);

struct kl_http_server;
struct ing_http;
/* POST /api/v1/admin/tsdb/flush, and PUT too clean_tombstones; GET and POST /api/v1/koalemos/log (skip.c) */
struct ing_http *ing_http_new(struct ing_ingestor *i, struct kl_http_server *s, struct kl_env *env);
void ing_http_free(struct ing_http *h);
#endif
