#ifndef QR_REUSE_PRIV_H
#define QR_REUSE_PRIV_H
/*
 * Range queries out of pieces: between results.c, which keeps them, piece.c, which makes them, reuse.c, which
 * finds out what is to be evaluated, reuse_standing.c, which knows what of a piece still holds,
 * reuse_compose.c, which keeps pieces of what came out, and compose.c, which makes one answer of all.
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
    uint64_t revision;                                 /* of the manifest; */
    uint64_t files;                                    /* which origins hold some of it, and what hides */
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
    int64_t  number;                                   /* of the stretch it lies in, or of the first */
    uint32_t parts;                                    /* so many stretches; several: a whole block of them */
    int64_t  first_ms, step_ms;
    uint32_t step_count;                               /* in a row from first_ms */
    uint32_t said_count;                               /* by the language, and at which of the steps */
    const struct pql_said *said;                       /* one malloc, as series */
    const char *info;                                  /* by the fetch; or NULL */
    uint32_t seen_count;                               /* of each stretch */
    struct qr_seen **seen;                             /* by stretch: by need, then by partition; those that
                                                          stood alike share one */
    uint32_t series_count;
    struct qr_piece_series *series;                    /* by labels; steps NULL: all of them. One malloc
                                                          with all that they point at */
    size_t   bytes;
};
struct qr_kept_query *qr_results_find(struct qr_results *r, struct kl_span key, uint64_t hash);
/* NULL: none. `parts` 1: of that stretch; more: of the block that begins with it. */
struct qr_piece      *qr_results_piece(const struct qr_kept_query *q, int64_t number, uint32_t parts);
bool qr_results_any(const struct qr_kept_query *q, int64_t first, int64_t last);       /* of these stretches */
void qr_results_forget(struct qr_results *r, struct kl_span key, uint64_t hash);       /* all pieces of it */
/* In place of one of the same stretch; a block's in place of those of its stretches. */
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
uint32_t qr_first_point(const struct pql_out_series *s, int64_t ms);   /* the first that is not before */

/* ---- piece.c: any thread ---- */
struct qr_piece *qr_piece_ref(struct qr_piece *p);     /* on the loop, as unref, once it is kept */
void             qr_piece_unref(struct qr_piece *p);   /* NULL is fine */
/* What its points take in a piece, about. */
size_t qr_piece_weight(const struct pql_result *r);
/* Steps [first_ms, ...] of a matrix; NULL: they are more than that. Nothing is said in it, or seen. */
struct qr_piece *qr_piece_cut(const struct pql_result *r, int64_t first_ms, int64_t step_ms,
                              uint32_t step_count, size_t bytes_max);
bool qr_piece_say(struct qr_piece *p, const struct pql_said *said, uint32_t count);    /* once; false: no memory */

/* ---- reuse.c: what it shares with those below ---- */
struct qr_file_seen { int64_t min_ms, max_ms, latest_ms; uint64_t hash, added, id, incarnation; bool told; };
struct qr_mark { int64_t hour; uint64_t seq; };
struct qr_standing {                                   /* how a partition stands for one need */
    uint32_t partition;
    uint64_t incarnation, applied, revision, rest, floor;
    struct qr_file_seen *files; size_t file_count;     /* origins of the tenant's, that overlap, and deletions, by min_ms;
                                                          latest_ms: the last max_ms up to there */
    struct qr_mark *marks; size_t mark_count;
};
struct qr_reuse_need { uint32_t id; int64_t back_ms, ahead_ms; struct qr_standing *states; size_t state_count; };
struct qr_stretch { uint32_t from, to; struct pql_query *pql; };

struct qr_reuse {
    struct qr_query *x;
    struct kl_env_task task;
    struct qr_fetch *probes;
    size_t   need_count, left;
    struct qr_reuse_need *needs;
    struct kl_buf key;
    uint64_t hash;
    int64_t  slack_ms, part_ms, fresh_ms;              /* fresh_ms: what is later is not kept */
    uint32_t block;                                    /* stretches of part_ms that make a block */
    uint32_t steps;
    struct qr_segment *segments; uint32_t segment_count;   /* rising; between them lies what is to do */
    struct qr_piece **held;    uint32_t held_count;    /* of the segments */
    struct qr_stretch todo[QR_REUSE_TODO_MAX]; uint32_t todo_count, todo_at;
    bool     asked;                                    /* the partitions, before anything was evaluated */
    bool     whole;                                    /* evaluated as one, no piece used */
    bool     keeps, composed, off;
    struct pql_query *grave[QR_REUSE_TODO_MAX + 1]; uint32_t grave_count;
    uint32_t cached_steps;
    struct qr_piece **made; uint32_t made_count;
    struct kl_arena arena;
    struct pql_result result;
};

static inline int64_t qr_floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static inline int64_t qr_reuse_time(const struct qr_reuse *r, uint32_t step)
{
    return r->x->params.start_ms + (int64_t)step * r->x->params.step_ms;
}

/* ---- reuse_standing.c ---- */
/* What the steps [first_ms, last_ms] look at, of one need. */
int64_t qr_reuse_sees_from(const struct qr_reuse *r, const struct qr_reuse_need *n, int64_t first_ms);
int64_t qr_reuse_sees_to(const struct qr_reuse *r, const struct qr_reuse_need *n, int64_t last_ms);
bool qr_reuse_read_states(struct qr_reuse *r);         /* out of the probes' answers; false: one did not say */
void qr_reuse_free_states(struct qr_reuse *r);
/* The times of those of its steps that lie in that stretch; false: none do. */
bool qr_reuse_part(const struct qr_reuse *r, const struct qr_piece *p, int64_t number, int64_t *first_ms,
                   int64_t *last_ms);
/* Of these times, all in its stretch of that place. */
bool qr_reuse_holds(const struct qr_reuse *r, const struct qr_piece *p, uint32_t part, int64_t first_ms,
                    int64_t last_ms);
void qr_reuse_note_seen(const struct qr_reuse *r, struct qr_piece *p);
/* The evaluation was the first to ask; false: not all said. */
bool qr_reuse_note_fetch(struct qr_reuse *r, const struct qr_fetch *f);
/* Did all that the evaluation read stand at least as the partitions did before? */
bool qr_reuse_read_enough(const struct qr_reuse *r, const struct qr_fetch *f);

/* ---- reuse_compose.c ---- */
void qr_reuse_compose(struct qr_reuse *r);             /* the answer; ends the query */
#endif
