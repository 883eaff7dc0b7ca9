#ifndef ING_PARTIAL_H
#define ING_PARTIAL_H
/*
 * An aggregate that is being made (partial.c draws its life) and the hands that make it, each a worker's share: no two tasks
 * of one hand are out at once, so what is a hand's needs no lock. A hand is made when it is first wanted.
 *
 *   pages     plan k (loop) -> hand i: render, read into columns i -> back (loop): hand i is free, plan k + n
 *   then      hands: columns into ranges, each sorted | one: feed, step | hands: items of an operator | one: step | ... | one: the answer
 *
 * The loop's phase and the workers' follow one another: `out` is 0 in between.
 */
#include "ingestor/columns.h"
#include "ingestor/ing_priv.h"

enum { ING_HANDS_MAX = 8, ING_HAND_SLICE_NS = 10 * 1000 * 1000 };
/* A page that goes to no bus may be larger than was guessed, but not without end. */
enum { ING_HAND_PAGE_MAX = 8 << 20 };
_Static_assert(ING_RANGES_MAX - (int)ING_HANDS_MAX >= 0, "a range for each hand");

struct ing_hand {
    struct ing_partial *x;
    unsigned number;                                   /* and the language's worker */
    bool     busy;                                     /* with a page */
    struct kl_env_task work, back;
    struct ing_plan *plan;
    struct kl_buf    page;                             /* keeps its room */
    struct ing_columns columns;
    enum kl_code code;
    struct kl_err err;
};

struct ing_partial {
    struct ing_ingestor *i;
    struct ing_ask      *a;
    struct ing_question  of;                           /* for the series, in place of the ask's own */
    struct pql_query    *q;
    struct kl_budget     budget;                       /* of all columns */
    int64_t              until_ns;
    unsigned             hand_count;                   /* at most; those that are there */
    struct ing_hand     *hands[ING_HANDS_MAX];

    /* the loop's, while pages are read */
    unsigned             out;                          /* pages, and `next`: all that is to come back */
    bool                 more, planning;               /* pages to plan; `next` is posted */
    struct kl_env_task   next;
    struct tsp_page      page;                         /* of the last one planned; counts for all */
    uint64_t             catalogue_revision;           /* the highest of all */
    bool                 stale;
    enum kl_code         code;                         /* the first failure; of the workers' phase, too */
    struct kl_err        err;

    /* the workers': items of which each takes the next, then `then`, by who was last */
    struct ing_columns  *columns[ING_HANDS_MAX];       /* of the hands that are there */
    struct ing_sort      sort;
    bool                 fed;
    void               (*item)(struct ing_partial *x, size_t item, unsigned worker);
    void               (*then)(struct ing_partial *x);
    size_t               count;
    _Atomic size_t       turn;
    _Atomic unsigned     left;
    _Atomic bool         failed;
    struct kl_env_task   back;                         /* the answer, or the failure, to the loop */
};

/* partial_work.c */
struct ing_hand *ing_partial_hand(struct ing_partial *x, unsigned number);
/* KL_ECANCELED: it is not wanted any more; KL_ETIMEOUT. Any thread. */
enum kl_code ing_partial_late(const struct ing_partial *x, struct kl_err *err);
/* A task of a hand: its plan into its columns; posts `back`. */
void ing_partial_read(struct kl_env_task *work);
/* All pages are there: begins the workers' phase, which posts x->back, with a->page made or x->code. */
void ing_partial_make(struct ing_partial *x);
#endif
