#ifndef QR_REPEAT_PRIV_H
#define QR_REPEAT_PRIV_H
/*
 * A range query that comes again with its window moved on: between repeats.c, which notices it, and
 * ahead.c, which reads what it will want. A shard's, on its loop.
 *
 * What such a query waits for is not the next minutes: those lie in memory, and it is not the rest of its
 * window: that was read before. It is filesets that were not there the last time: after a flush the
 * newest one, after a merge one in place of many, with other objects, so that nothing of it is in any
 * cache. Therefore `known` says by which manifests it was answered last, and where a partition's pointer
 * has moved on since, filesets that these do not name are selected from, with the query's own matchers.
 */
#include "querier/qr_priv.h"

struct qr_known {
    uint32_t partition;
    struct qr_manifest *manifest;                      /* NULL: there was none */
    uint64_t tried;                                    /* the pointer's revision that was read ahead for, however
                                                          it went */
};
struct qr_taken { uint64_t file, bytes; };             /* ahead, of a fileset, since it last came */
struct qr_repeat {
    uint64_t hash;
    char     tenant[BLK_TENANT_MAX + 1];
    struct kl_span text;                               /* owned */
    struct pql_params params;                          /* the last; its text is that one */
    int64_t  rows_max_ms;
    int64_t  moved_ms, period_ns, seen_ns;             /* from one to the next; when the last one came */
    unsigned moves;                                    /* 0: it has not moved on yet */
    struct qr_known *known; size_t known_count;
    struct qr_taken *taken; size_t taken_count;        /* room for QR_AHEAD_FILES_MAX; what is past it goes
                                                          to the last */
    struct qr_repeat *newer, *older;
};
uint64_t qr_repeat_file(const struct blk_info *info);
/* How the partition stood is known from here on: takes a reference. */
void qr_repeat_know(struct qr_repeat *r, uint32_t partition, struct qr_manifest *m);
/* It is read ahead for as the catalogue is now; or is to be after all. */
void qr_repeat_tried(const struct qr_shard *s, struct qr_repeat *r, bool is);
#endif
