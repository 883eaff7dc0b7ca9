#ifndef QR_QUERIER_H
#define QR_QUERIER_H
/*
 * The querier: answers. A query is a state machine on one of the querier's loops: parse -> for each
 * need, plan (placement, catalogue) -> live pages from the owners and selections from filesets, in
 * parallel -> merge per series -> evaluate as work -> answer. Live heads are asked first; their
 * answer names the catalogue revision up to which they have let go, and filesets are read from a
 * catalogue at least as new: nothing falls between. Of two values for one timestamp the live head's wins,
 * then the fileset's with the higher log position.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/config.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/bus/bus.h"
#include "libkoal/env/env.h"
#include "libkoal/env/live.h"
#include "libkoal/store/store.h"

struct qr_options {                                    /* what is _Atomic may change while it runs */
    unsigned loops;                                    /* 0: one */
    bool     strong;                                   /* the default consistency */
    _Atomic int64_t timeout_ms;                        /* of a query; 2 min */
    _Atomic int64_t lookback_ms;                       /* 5 min */
    _Atomic uint64_t query_memory_max_bytes, query_samples_max;
    _Atomic uint64_t cache_max_bytes;                  /* of what open filesets keep in memory; 64 MiB */
    _Atomic uint64_t results_cache_bytes;              /* of parts of answers; 0: none is kept */
    _Atomic int64_t results_cache_fresh_ms;            /* nothing younger is kept */
    _Atomic uint64_t results_cache_least;              /* samples and points; nothing is kept of less */
    _Atomic unsigned concurrent_max;                   /* queries at once; more wait in a bounded queue */
    _Atomic int64_t slow_ms;                           /* one that takes as long is told; 0: none is */
    _Atomic uint64_t prefetch_max_bytes;               /* read ahead in ten minutes; 0: nothing is */
    _Atomic unsigned hedge_percent;                    /* of questions may be put twice; 0: none */
    bool     pushes;                                   /* aggregates may be made by ingestors (features.pushdown) */
    struct kl_log *log;
    struct kl_metrics *metrics;
    struct kl_tracer *tracer;                          /* may be NULL */
    /* What /status/{flags,config,runtimeinfo} and /user_limits tell; each may be NULL. They outlive it. */
    const struct kl_config *config;
    struct kl_env_live *live;                          /* not NULL: instead of config, and what is _Atomic
                                                          above follows it */
    const char *hostname, *folder;
    /* Whether the last reload of it was taken, and when what is in force was; any thread. NULL: none ever comes. */
    void (*reloaded)(void *ctx, bool *well, int64_t *taken_ms);
    void *reloaded_ctx;
    /* Filesets of the same process' ingestor: what is there is not asked of the store. May be NULL. */
    struct kl_env_dir *local;
};
struct qr_querier;
struct qr_querier *qr_new(struct kl_env *env, struct kl_bus *bus, struct kl_store *store,
                          const struct qr_options *options);
void qr_free(struct qr_querier *q);
bool qr_ready(struct qr_querier *q, struct kl_err *err);

struct kl_http_server;
struct qr_http;
struct qr_http *qr_http_new(struct qr_querier *q, struct kl_http_server *s, struct kl_env *env);
void qr_http_free(struct qr_http *h);
#endif
