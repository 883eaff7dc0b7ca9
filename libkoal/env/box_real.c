#include "libkoal/env/box.h"

#include "libkoal/base/mem.h"

#include <pthread.h>
#include <stdlib.h>

struct kl_env_box { pthread_mutex_t lock; struct kl_env_held *now; };

void kl_env_held_ref(struct kl_env_held *h) { atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed); }

void kl_env_held_unref(struct kl_env_held *h)
{
    if (h != NULL && atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) == 1)
        h->drop(h);
}

struct kl_env_box *kl_env_box_new(struct kl_env_held *first_take)
{
    struct kl_env_box *b = kl_new(sizeof *b);

    pthread_mutex_init(&b->lock, NULL);
    b->now = first_take;
    return b;
}

void kl_env_box_free(struct kl_env_box *b)
{
    if (b == NULL)
        return;
    kl_env_held_unref(b->now);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

struct kl_env_held *kl_env_box_get(struct kl_env_box *b)
{
    struct kl_env_held *h;

    pthread_mutex_lock(&b->lock);
    h = b->now;
    if (h != NULL)
        kl_env_held_ref(h);
    pthread_mutex_unlock(&b->lock);
    return h;
}

void kl_env_box_set(struct kl_env_box *b, struct kl_env_held *next_take)
{
    struct kl_env_held *last;

    pthread_mutex_lock(&b->lock);
    last = b->now;
    b->now = next_take;
    pthread_mutex_unlock(&b->lock);
    kl_env_held_unref(last);                           /* what drops it may take its time */
}
