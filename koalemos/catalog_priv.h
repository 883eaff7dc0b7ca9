#ifndef KOALEMOS_CATALOG_PRIV_H
#define KOALEMOS_CATALOG_PRIV_H
/* Between the files of `koalemos catalog`. */
#include "libblock/rebuild.h"
#include "libkoal/app/app.h"
#include "libkoal/bus/bus.h"

struct catalog_spreads;
struct catalog {
    struct kl_app      *app;
    struct kl_env_dir  *data, *objects;
    struct kl_store    *store;
    struct kl_bus      *bus;
    struct kl_env_loop *loop;
    struct catalog_spreads *spreads;
    uint32_t partitions;
    bool     filesets_only, failed;                    /* failed: err has the words */
    int      status;
    struct kl_err err;
};

/* A question to the bus, and its answer: fill `kv`, or `info` and about_log. */
struct catalog_question {
    struct kl_env_task  begin;
    struct kl_bus      *bus;
    struct kl_app_wait *wait;
    struct kl_bus_kv    kv;
    struct kl_bus_info  info;
    bool                about_log;
};
void catalog_ask(struct catalog *c, struct catalog_question *q);      /* waits */

/* ---- catalog_spread.c ---- */
struct catalog_spreads *catalog_spreads_new(uint32_t partitions);
void catalog_spreads_free(struct catalog_spreads *s);
/* Opens each fileset of the manifest. */
enum kl_code catalog_spreads_see(struct catalog_spreads *s, struct kl_store *store,
                                 const struct blk_manifest *m, struct kl_err *err);
/* Into the KV what it does not know. */
enum kl_code catalog_spreads_put(struct catalog *c, struct catalog_spreads *s, struct kl_err *err);
#endif
