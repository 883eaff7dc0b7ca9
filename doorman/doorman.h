#ifndef DM_DOORMAN_H
#define DM_DOORMAN_H
/*
 * The doorman: takes pushes, inspects, places, routes. One dm_doorman is several gates; a gate is a
 * whole state machine on one loop, with its own incarnation, remembered table and open records, so
 * gates share nothing but the placement table. A push goes to the gate of its connection.
 *
 * The core is event-driven: push (bytes of a request), append done, timer, placement changed. It
 * answers a push through its callback only when every partition it touches has acked.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "doorman/policy.h"
#include "libkoal/base/buf.h"
#include "libkoal/base/config.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/base/trace.h"
#include "libkoal/bus/bus.h"
#include "libkoal/env/env.h"
#include "libkoal/env/live.h"
#include "libtsproto/csv.h"
#include "libtsproto/otlp_labels.h"
#include "libtsproto/placement.h"

struct dm_options {
    unsigned gates;                                    /* 0: one */
    int64_t  linger_ms;                                /* 20 in a cluster, 0 locally: with the commit */
    uint64_t partition_inflight_bytes_max, inflight_bytes_max;
    int64_t  append_timeout_ms;                        /* then 503; retried inside until then */
    int64_t  heartbeat_ms;                             /* to the other doormen; 0: there are none */
    uint32_t partitions;                               /* of the log as it was opened; 0: any */
    const _Atomic int64_t *clock_off_ms;               /* not 0: this clock is wrong by that much, or it
                                                          may be; NULL: nobody knows; outlives it */
    uint32_t remembered_series_max;                    /* a gate's; 0: 2 Mi (about 140 MB when full) */
    uint32_t log_replicas;                             /* 0, 1: an ack is one server's */
    const char *influx_separator;                      /* measurement SEPARATOR field; NULL: "_" */
    const char *influx_db_label;                       /* the database as a label; NULL, "": it is none */
    struct dm_limits limits;                           /* of all tenants of whom `config` says nothing */
    const struct kl_config *config;                    /* may be NULL */
    struct kl_env_live *live;                          /* NULL: `config` and `limits` hold for ever; else it
                                                          is asked instead, and outlives the doorman */
    struct tsp_otlp_settings otlp;
    uint64_t delta_bytes_max;                          /* a gate's sums of deltas; 0: 64 MiB */
    struct kl_log *log;
    struct kl_metrics *metrics;
    struct kl_tracer *tracer;                          /* may be NULL */
};

#define DM_CLOCK_UNKNOWN INT64_MIN                     /* in *clock_off_ms: not compared yet */

enum dm_format { DM_RW1, DM_TEXT, DM_OPENMETRICS, DM_RW2, DM_INFLUX, DM_JSONL, DM_CSV, DM_OTLP,
                 DM_FORMATS };
/* What some formats are told beside the body. */
struct dm_import {
    int64_t unit_ns;                                   /* of Influx times; 0: nanoseconds */
    struct kl_span db;                                 /* Influx: the database or bucket; or empty */
    const struct tsp_csv_format *csv;
};
/* Where in the logs a push lies: whoever asks "after" that sees it. */
enum { DM_POSITIONS_MAX = 64 };
struct dm_position { uint32_t partition; uint64_t seq; };

struct dm_push {                                       /* the caller's until done */
    enum dm_format format;
    struct dm_import import;                           /* what it points at lives until done */
    char  tenant[151];
    char *body; size_t body_size;                      /* malloc'ed, unpacked; the gate's from here */
    struct kl_fp sent;                                 /* hash of the body as sent; {0}: never sent again */
    int64_t now_ms;                                    /* when it came; text samples without a time */
    char request_id[65];                               /* for the log; may be "" */
    bool everywhere;                                   /* done when every replica has applied it, too */
    struct kl_trace trace;                             /* its request's span; often not on */
    void (*done)(struct dm_push *p);                   /* on the gate's loop */
    void *ctx;
    /* out: 204, 400, 429, 503 ...; the sentence to send; how many were stored and refused */
    unsigned status; char text[4608]; unsigned retry_after_s;
    uint64_t samples_stored, hists_stored, exemplars_stored, refused;
    bool deduplicated;                                 /* all of it: another replica leads */
    uint64_t samples_passed_over, hists_passed_over, exemplars_passed_over;   /* of remote write 2.0 */
    uint64_t points_refused;                           /* OTLP's data points, in part or whole; exemplars are none */
    struct dm_position acked[DM_POSITIONS_MAX]; uint32_t acked_count;
    bool acked_elsewhere;                              /* and in more, or before this push came */
    struct kl_env_task task; void *own; void *gate;
    struct dm_share *share; size_t charged;            /* bytes in flight of its tenant */
};

struct dm_doorman;
/* Draws each gate's incarnation from env->random. Watches the placement table in the bus's KV. */
struct dm_doorman *dm_new(struct kl_env *env, struct kl_bus *bus, const struct dm_options *options);
void dm_free(struct dm_doorman *d);                    /* not from a gate's loop */
/* Any thread. Refuses at once (status 503, done called here) when too much is in flight. */
void dm_push(struct dm_doorman *d, unsigned connection, struct dm_push *p);
uint32_t dm_log_replicas(const struct dm_doorman *d);
/* What holds for a tenant. Any thread. */
struct dm_limits dm_limits_of(const struct dm_doorman *d, struct kl_span tenant);
/* The largest body that any of them may send: as it is now, and where it is to be found. */
const _Atomic size_t *dm_body_max(const struct dm_doorman *d);
/* Can it take pushes: placement known, bus healthy? err has the words. Any thread. */
bool dm_ready(struct dm_doorman *d, struct kl_err *err);

/* The HTTP side (http.c): registers the doorman's routes on a server. Freed after the server has
 * stopped and before the doorman. */
struct kl_http_server;
struct dm_http;
struct dm_http *dm_http_new(struct dm_doorman *d, struct kl_http_server *s,
                            const struct dm_options *options, struct kl_env *env);
void dm_http_free(struct dm_http *h);
#endif
