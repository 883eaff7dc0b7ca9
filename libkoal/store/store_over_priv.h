#ifndef KL_STORE_OVER_PRIV_H
#define KL_STORE_OVER_PRIV_H
/*
 * A store over another: what it does not do itself it passes on. The first member of such a store's struct.
 * `inner` stays the caller's.
 */
#include "libkoal/store/store.h"

struct kl_store_over { struct kl_store store; struct kl_store *inner; };

/* put, put_from, head, list, remove and cancel go to `inner`; get and close are the store's own business. */
void kl_store_over_init(struct kl_store_over *o, struct kl_store *inner);
#endif
