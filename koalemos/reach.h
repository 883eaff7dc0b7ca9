#ifndef KOALEMOS_REACH_H
#define KOALEMOS_REACH_H
/*
 * What a command reaches that works on a cell's stored data: the store, and the KV. Either of one process
 * with its data-dir, which must not run meanwhile (its folder is locked), unless it is asked itself, by HTTP
 * (`server`: serve_catalogue.h); or, without a data-dir, of a cluster in NATS, which may run. One thread, that of main; every call waits.
 */
#include "libblock/manifest.h"
#include "libkoal/app/app.h"
#include "libkoal/bus/bus.h"
#include "libkoal/store/store.h"
#include "libtsproto/placement.h"

struct reach {
    struct kl_app      *app;
    struct kl_env_dir  *data, *objects;                /* NULL in a cluster */
    struct kl_store    *store;
    struct kl_bus      *bus;
    struct kl_env_loop *loop;
    uint32_t            partitions;
    struct kl_http_client *client;
    const char         *server, *token_file, *ca_file; /* set before reach_open, or NULL */
    bool                standing;                      /* set before: the data-dir's store is there, or it is an error */
};
/* After a failure, too, reach_close is due. `writes`: as kl_store_place's. */
enum kl_code reach_open(struct reach *r, struct kl_app *app, bool writes, struct kl_err *err);
void         reach_close(struct reach *r);

/* A question to the bus, and its answer: fill `kv`, or `info` and about_log. */
struct reach_question {
    struct kl_env_task  begin;
    struct kl_bus      *bus;
    struct kl_app_wait *wait;
    struct kl_bus_kv    kv;
    struct kl_bus_info  info;
    bool                about_log;
};
void reach_ask(struct reach *r, struct reach_question *q);

/* The table of where series land; without one as yet, that of no exceptions. The caller's. */
enum kl_code reach_placement(struct reach *r, struct tsp_placement **table, struct kl_err *err);

/* ---- the catalogue ---- */
/* What the partition has. Where there is no pointer, a manifest of revision 0 that fits its log. */
enum kl_code reach_manifest(struct reach *r, uint32_t partition, struct blk_manifest *m,
                            uint64_t *kv_revision, struct kl_err *err);
/* The partition's manifest becomes what `change` makes of it, by compare-and-set: it is called again when
 * somebody else was faster. The epoch stays: whoever owns the partition sees it as its own doing, and builds
 * upon it. `change` returns KL_EEXIST when nothing has to be done: then reach_commit does, too. */
enum kl_code reach_commit(struct reach *r, uint32_t partition,
                          enum kl_code (*change)(void *ctx, struct blk_manifest *m, struct kl_err *err),
                          void *ctx, struct kl_err *err);
#endif
