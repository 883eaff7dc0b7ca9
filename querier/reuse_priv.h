#ifndef QR_REUSE_PRIV_H
#define QR_REUSE_PRIV_H
/*
 * Range queries out of pieces: between results.c, which keeps them, reuse.c, which finds out whether
 * they still hold and what is to be evaluated, and compose.c, which makes one answer of all.
 */
#include "querier/qr_priv.h"

enum {
    QR_REUSE_STEPS_MIN = 8,                            /* steps old enough; fewer are not worth it */
    QR_REUSE_NEEDS_MAX = 16,                           /* selectors */
    QR_REUSE_TODO_MAX = 4,                             /* stretches that are evaluated each by itself */
    QR_REUSE_PARTS_MAX = 2048,                         /* of one query */
    QR_REUSE_TEXT_MAX = 4096
};

/* ---- results.c ---- */
struct qr_seen {                                       /* how a partition stood for one need of a piece */
    uint32_t partition;
    uint64_t incarnation, applied;                     /* its log was read up to there, at least */
    uint64_t files;                                    /* which filesets hold some of it, and what hides */
};
struct qr_piece_series {
    struct kl_labels labels;
    uint32_t count;
    const uint32_t *steps;
    const double   *values;
    const struct kl_hist *const *hists;                /* NULL: floats alone; else not NULL where one is */
};
struct qr_piece {
    unsigned refs;                                     /* on the loop only */
    int64_t  number;                                   /* of the stretch it lies in */
    int64_t  first_ms, step_ms;
    uint32_t step_count;                               /* in a row from first_ms */
    uint32_t said_count;                               /* by the language, and at which of the steps */
    const struct pql_said *said;
    const char *info;                                  /* by the fetch; or NULL */
    uint32_t seen_count;
    struct qr_seen *seen;                              /* by need, then by partition */
    uint32_t series_count;
    struct qr_piece_series *series;                    /* by labels; steps NULL: all of them */
    size_t   bytes;
    struct kl_arena arena;
};
struct qr_piece *qr_piece_ref(struct qr_piece *p);
void             qr_piece_unref(struct qr_piece *p);   /* NULL is fine */

struct qr_kept_query *qr_results_find(struct qr_results *r, struct kl_span key, uint64_t hash);
struct qr_piece      *qr_results_piece(const struct qr_kept_query *q, int64_t number);    /* NULL: none */
void qr_results_forget(struct qr_results *r, struct kl_span key, uint64_t hash);       /* all pieces of it */
void qr_results_put(struct qr_results *r, struct kl_span key, uint64_t hash, struct qr_piece *take);

/* ---- compose.c: any thread ---- */
struct qr_segment {                                    /* steps [from, to] of the query, out of one of: */
    uint32_t from, to;
    const struct qr_piece   *piece;
    const struct pql_result *result;
};
/* All that the segments (rising, apart) have of their steps, as one matrix in `arena`; false: it is
 * larger than the arena may be. Warnings and infos are left alone. */
bool qr_compose(const struct qr_segment *segments, uint32_t count, int64_t start_ms, int64_t step_ms,
                struct kl_arena *arena, struct pql_result *out);
/* What its points take in a piece, about. */
size_t qr_piece_weight(const struct pql_result *r);
/* Steps [first_ms, ...] of a matrix; NULL: they are more than that. */
struct qr_piece *qr_piece_cut(const struct pql_result *r, int64_t first_ms, int64_t step_ms,
                              uint32_t step_count, size_t bytes_max);
#endif
