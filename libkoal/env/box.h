#ifndef KL_ENV_BOX_H
#define KL_ENV_BOX_H
/*
 * A box holds one finished thing that many read and somebody replaces now and then: whoever looks into
 * it holds what was there until he lets it go, whatever has taken its place meanwhile. The thing begins
 * with a kl_env_held, is never changed, and is dropped by whoever lets go of it last.
 *
 * Any thread. A look takes a lock that nobody holds for longer than a look does.
 */
#include <stdatomic.h>

struct kl_env_held {
    _Atomic unsigned refs;
    void (*drop)(struct kl_env_held *h);
};
/* One reference, the caller's. */
static inline void kl_env_held_init(struct kl_env_held *h, void (*drop)(struct kl_env_held *h))
{
    atomic_init(&h->refs, 1);
    h->drop = drop;
}
void kl_env_held_ref(struct kl_env_held *h);
void kl_env_held_unref(struct kl_env_held *h);         /* NULL is fine */

struct kl_env_box;
struct kl_env_box *kl_env_box_new(struct kl_env_held *first_take);     /* may be NULL */
void               kl_env_box_free(struct kl_env_box *b);      /* lets go of what is in it */
struct kl_env_held *kl_env_box_get(struct kl_env_box *b);      /* a reference, the caller's; or NULL */
void               kl_env_box_set(struct kl_env_box *b, struct kl_env_held *next_take);
#endif
