#ifndef PQL_PARTIAL_PRIV_H
#define PQL_PARTIAL_PRIV_H
/*
 * Aggregates that were folded elsewhere, part by part: the bytes in between, and what they come to.
 *
 *   u8 version = 1   u8 flags (1: there is a tally)   u8 aggregate: sum avg min max count group topk bottomk, from 1
 *   varint steps     varint samples   varint series  what was charged there
 *   varint rows      varint points                   what the aggregate had before it
 *   { varint seen, varint read } of each step        where the flag says so
 *   varint notes     { u8 kind (1: no counter by its name, 2: by its type), span name, span more, bitmap of steps }
 *   varint groups    { span labels, span first, u8 flags, [bitmap], values, [compensations], [counts] }
 *
 * `labels` are the group's, `first` those of its first row: groups stand in the order in which their
 * first rows do, whichever part these are of. A group's flags: 1 the name goes at the end, 2 there is a
 * value at each step (else a bitmap says at which), 4 some compensation is not zero. Values and
 * compensations are the doubles' bits, counts (of averages) varints; each only of steps with a value.
 *
 * Of topk and bottomk a group is a row, `labels` its own and `first` empty, with the steps at which it is among
 * the first of its part: the first of all are among these. Which of equal values is taken, and where it
 * stands, follows from all that were compared before; so a part refuses where values that it chose are equal
 * to each other or to one that it did not, and the reader refuses where any two at a step are.
 */
#include "libpromql/agg_priv.h"

enum { PQL_PARTIAL_VERSION = 1, PQL_PARTIAL_NOTES_MAX = 64 };

struct pql_folded {
    struct kl_labels labels, first;
    bool drop_name;
    double *v, *c, *count;
    uint8_t *has;
};
/* bits: of steps, to be written (NULL: there is but one); has: P_FLOAT at each, as it was read. */
struct pql_partial_note { uint8_t what; struct kl_span name, more; const uint64_t *bits; uint8_t *has; };
struct pql_partials {
    struct kl_arena arena;                             /* all of it */
    uint64_t rows, points;
    bool is_rows;                                      /* of topk: groups are rows to choose from */
    uint64_t *seen, *read;                             /* of each step; NULL: not counted */
    uint32_t note_count, count, room;
    struct pql_partial_note notes[PQL_PARTIAL_NOTES_MAX];
    struct pql_folded *groups;                         /* in the order of `first`, once all are in */
    uint32_t *slots, mask;                             /* by labels; number + 1 */
};

uint8_t pql_partial_code(uint8_t op);                  /* of an aggregate's token */
/* The notes that a partial can carry; false: there are others as well, or too many. */
bool pql_annos_carry(const struct pql_annos *a, struct pql_partial_note notes[PQL_PARTIAL_NOTES_MAX], uint32_t *count);
/* What was fed of the operator's need already folded, or NULL. */
const struct pql_partials *pql_op_partials(const struct pql_op *op);
/* The operator below the aggregate, in place of its work: counts and notes what it would have. */
void pql_partial_stand_in(struct pql_op *op, int32_t at);
/* Marks the needs that may be pushed; at the end of planning. */
void pql_push_plan(struct pql_query *q);
bool pql_may_push(const struct pql_op *op);
void pql_partials_free(struct pql_partials *p);

/* ---- op_agg.c: an aggregate that is to be a partial keeps what it came to ---- */
struct pql_unfinished { double *c, *count; const struct kl_labels *first; };
/* op_topk.c: may what was chosen depend on what came before what? */
bool pql_topk_is_tied(const struct pql_op *op);
static inline bool pql_partial_is_rows(uint8_t op) { return op == T_TOPK || op == T_BOTTOMK; }
/* By the number of the row; c and count NULL where the aggregate has none. */
struct pql_unfinished pql_agg_unfinished(const struct pql_op *op, uint32_t group);
#endif
