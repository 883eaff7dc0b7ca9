#ifndef DM_PRIV_H
#define DM_PRIV_H
/*
 * Between the doorman's files: gate.c walks pushes, route.c carries records to the log, doorman.c holds
 * the gates together. Everything of a gate belongs to its loop.
 */
#include <stdatomic.h>

#include "doorman/doorman.h"
#include "doorman/inspect.h"
#include "doorman/table.h"
#include "libtsproto/record.h"

enum { DM_TABLE_MAX = 4 << 20, DM_REDEFINE_S = 3600, DM_INFLIGHT_RECORDS_MAX = 8,
       DM_RETRY_FIRST_MS = 50, DM_RETRY_MOST_MS = 1000 };

struct dm_gate;
struct dm_batch;

struct dm_metrics {
    struct kl_metric *samples, *pushes, *push_failed, *records, *record_bytes, *hits, *misses,
                     *evicted, *entries, *definitions, *retries, *alarms, *refused[DM_REASONS];
};

/* One push on its way through a gate. `pending` counts the batches that carry parts of it, and the
 * walk itself, so that it cannot be answered before the walk has ended. */
struct dm_work {
    struct dm_push *push;
    unsigned pending;
    bool failed;
    char why[KL_ERR_TEXT_MAX];
    struct dm_refusals refusals;
};

/* A partition, seen from a gate. */
struct dm_route {
    struct dm_gate  *gate;
    uint32_t partition;
    struct tsp_record_writer *writer;
    struct dm_batch *open;                             /* what `writer` fills; NULL: nothing yet */
    struct kl_env_timer linger;
    uint64_t inflight_bytes, last_seq, incarnation;
    uint32_t epoch;                                    /* rises with each new stream incarnation; from 1 */
    unsigned inflight_records;
};

struct dm_gate {
    struct dm_doorman *doorman;
    struct kl_env_loop *loop;
    struct tsp_incarnation who;
    uint64_t counter;                                  /* of records */
    uint32_t batches;                                  /* numbers batches, for entries; from 1 */
    uint32_t now_s;                                    /* mono, as of the push being walked */
    struct dm_table *table;
    struct tsp_placement *placement;                   /* NULL until it is known */
    uint16_t placed_epoch;                             /* rises with each table; from 1 */
    struct kl_bus_watch watch;
    struct dm_route *routes;                           /* one a partition of the placement */
    uint32_t route_count;
    struct dm_batch *live;                             /* every batch there is */
    bool stopping;
    struct kl_env_task stop;
    struct kl_buf scratch;                             /* canonical labels of a new series */
    struct kl_labels_builder builder;
    struct tsp_text *text;
    struct kl_arena arena;                             /* histograms of one series */
};

struct dm_doorman {
    struct kl_env *env;
    struct kl_bus *bus;
    struct dm_options options;
    struct dm_metrics metrics;
    _Atomic uint64_t inflight_bytes;                   /* bodies and records of all gates */
    _Atomic bool placed;                               /* every gate knows the placement */
    _Atomic unsigned placed_gates;
    unsigned gate_count;
    struct dm_gate *gates;
};

/* ---- route.c ---- */
void dm_routes_make(struct dm_gate *g, uint32_t partitions);
void dm_routes_free(struct dm_gate *g);
/* The open record of a partition, for `w`; NULL, with w->failed and words, when it is full. */
struct tsp_record_writer *dm_route_open(struct dm_route *r, struct dm_work *w);
/* Adds the definition of a series unless the open record has it or an ack says it is known. */
void dm_route_define(struct dm_route *r, struct dm_entry *e, struct kl_span tenant, struct kl_fp fp,
                     struct kl_labels labels);
bool dm_route_knows(const struct dm_route *r, const struct dm_entry *e);
/* After samples were added: closes the record when it is large enough. */
void dm_route_added(struct dm_route *r);
/* After a push: closes or lingers, on every route. */
void dm_routes_after_push(struct dm_gate *g);
void dm_routes_stop(struct dm_gate *g);                /* fails what has not been handed to the bus */

/* ---- gate.c ---- */
void dm_gate_push(struct kl_env_task *task);           /* runs on the loop */
void dm_work_done(struct dm_gate *g, struct dm_work *w);        /* one pending less; answers at none */
void dm_work_fail(struct dm_work *w, const char *why);
#endif
