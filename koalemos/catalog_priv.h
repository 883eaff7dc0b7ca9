#ifndef KOALEMOS_CATALOG_PRIV_H
#define KOALEMOS_CATALOG_PRIV_H
/* Between the files of `koalemos catalog`. */
#include "koalemos/reach.h"
#include "libblock/rebuild.h"

struct catalog_spreads;
struct catalog {
    struct reach reach;
    struct catalog_spreads *spreads;
    bool     filesets_only, failed;                    /* failed: err has the words */
    int      status;
    uint32_t seen;                                     /* partitions in the store */
    struct kl_err err;
};

/* ---- catalog_spread.c ---- */
struct catalog_spreads *catalog_spreads_new(uint32_t partitions);
void catalog_spreads_free(struct catalog_spreads *s);
/* Opens each fileset of the manifest. */
enum kl_code catalog_spreads_see(struct catalog_spreads *s, struct kl_store *store,
                                 const struct blk_manifest *m, struct kl_err *err);
/* Into the KV what it does not know. */
enum kl_code catalog_spreads_put(struct catalog *c, struct catalog_spreads *s, struct kl_err *err);
#endif
