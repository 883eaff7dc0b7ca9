#ifndef KL_HEDGE_H
#define KL_HEDGE_H
/*
 * When a thing that was asked for is asked for once more: after the time in which nineteen of twenty of
 * the last answers came, within bounds. Where all are slow that would double the load, so only a part of
 * all may be asked for twice: each second asking is spent from an allowance, to which each first one
 * gives a little back. The caller's lock, or loop; no memory of its own.
 */
#include <stdbool.h>
#include <stdint.h>

enum { KL_HEDGE_ANSWERS = 256 };
struct kl_hedge {
    int64_t  first_ms, least_ms, most_ms;              /* the caller's: while too few came; the bounds */
    unsigned burst;                                    /* the caller's: the allowance, at most */
    int64_t  took_ns[KL_HEDGE_ANSWERS];                /* a ring of the last answers */
    uint64_t answers;
    int64_t  after_ms;                                 /* what most of them took; 0: too few yet */
    unsigned spent;                                    /* hundredths */
};
void    kl_hedge_asked(struct kl_hedge *h, unsigned percent);          /* for the first time */
void    kl_hedge_answered(struct kl_hedge *h, int64_t took_ns);
int64_t kl_hedge_after_ms(const struct kl_hedge *h);   /* what takes longer may be asked for again */
bool    kl_hedge_may(struct kl_hedge *h);              /* true: counts as asked for twice */
#endif
