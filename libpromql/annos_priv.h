#ifndef PQL_ANNOS_PRIV_H
#define PQL_ANNOS_PRIV_H
/*
 * The table of what was noted: an entry for what reads the same and was noted by the same operator, and the
 * steps at which it was, where that is wanted and known. What reads the same is told once (annos.c).
 */
#include "libpromql/eval_priv.h"

enum { PQL_ANNOS_MAX = 1024, PQL_INFOS_OF_CALLER_MAX = 16, PQL_WARNINGS_OF_CALLER_MAX = 64 };

struct pql_anno {
    uint8_t  what;
    int32_t  at;
    char    *name, *more;
    double   x, y, diff;
    int64_t  least_ms, most_ms;
    uint32_t count, order;                             /* of the operator that noted it last */
    uint64_t hash;
    uint64_t *steps;                                   /* a bit a step; NULL: not wanted, or not known */
    uint32_t set;                                      /* of them */
};
struct pql_annos {
    atomic_flag lock;                                  /* held for a look-up in a short table */
    bool        by_steps;                              /* steps are wanted */
    bool        blurred;                               /* not of all it is known at which steps */
    uint32_t    step_count;
    uint32_t    count, own_count, info_count;
    uint32_t    room;
    struct pql_anno *at;                               /* at most PQL_ANNOS_MAX; they move as it grows */
    char       *own[PQL_WARNINGS_OF_CALLER_MAX], *infos[PQL_INFOS_OF_CALLER_MAX];
};
void pql_annos_lock(struct pql_annos *a);
void pql_annos_unlock(struct pql_annos *a);
/* The entry for it, new or known; NULL when the table is full. The lock is held. */
struct pql_anno *pql_annos_entry(struct pql_annos *as, struct pql_anno *a, struct kl_span name,
                                 struct kl_span more, bool *is_new);
bool pql_annos_counts(uint8_t what);                   /* it tells how often it was noted, or the extremes of it */

/* ---- annos_steps.c: the lock is held ---- */
/* Notes that `e` was noted at that step of the operator (PQL_ANY_STEP: at no one that is known), or wherever a
 * row has floats. */
void pql_annos_step(const struct pql_op *op, struct pql_annos *as, struct pql_anno *e, int64_t step);
void pql_annos_floats(const struct pql_op *op, struct pql_annos *as, struct pql_anno *e, const uint8_t *has);
#endif
