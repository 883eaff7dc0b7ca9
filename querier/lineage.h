#ifndef QR_LINEAGE_H
#define QR_LINEAGE_H
/*
 * What the filesets of a manifest were made of, as far as the manifests before it tell: for who keeps answers
 * (reuse.c). A merge that loses nothing changes no answer; so what it made stands for what it was made of, the
 * *origins*, each with its own times: an answer over two hours of a day looks at the cut of these two hours
 * also when it lies in a fileset of the whole day by now.
 *
 * Nobody says what a merge was made of, or that it lost nothing. It shows by two manifests, one after the other:
 *
 *   nothing between    what has left is listed as gone, and nothing else has come and gone since: gone are only
 *                      names that the one before had. A manifest keeps them for BLK_GONE_MS, so that is known
 *                      when the one before was the newest a shorter time ago, as where somebody asks now and then
 *   all of it          then what a merge made can only be of what has left and lay in its time. A merge leaves
 *                      samples out (deletions, rules of retention, one of two at one time) or takes them over,
 *                      once: when there are as many as before, they are the same
 *
 * Else the new fileset is what it is, an origin of its own, and so is all that remains of what it may be of.
 *
 * A cut's fileset, seen to come, is `told` of the log: it has nothing but what records up to its id wrote. To hours
 * in which none of them wrote since, as the owner's marks tell, it brings nothing that was not live before. When a
 * fileset goes, and no merge explains it (retention), that is an origin, too, which comes then and is not told:
 * what was live before has gone.
 *
 * Rows of a rollup beside its fileset answer what its samples do, to the bit, where answers are kept (rows.c), and
 * are no origin; others are one each. Immutable; made by any thread.
 */
#include "libblock/manifest.h"

struct qr_origin {
    int64_t  min_ms, max_ms;
    uint64_t tenant;                                   /* a hash of it */
    uint64_t hash;                                     /* of name, content and marks */
    uint64_t added;                                    /* the revision in which it was seen first */
    uint64_t id, incarnation;
    bool     told;
};
struct qr_lineage;
/* The least revision that origins tell something since: LOST_MAX have gone after it. */
uint64_t qr_lineage_floor(const struct qr_lineage *l);
/* `before`, and how long ago it was sure to be that of the newest manifest; NULL: nothing is known. */
struct qr_lineage *qr_lineage_new(const struct blk_manifest *m, const struct qr_lineage *before, int64_t ago_ms);
void   qr_lineage_free(struct qr_lineage *l);          /* NULL is fine */
/* Those of a tenant (others' as well, where hashes are equal), by rising min_ms. Returns how many. */
size_t qr_lineage_of(const struct qr_lineage *l, const char *tenant, const struct qr_origin **first);
#endif
