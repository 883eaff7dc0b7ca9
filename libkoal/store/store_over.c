/* What a store over another passes on. */
#include "libkoal/store/store_over_priv.h"

static struct kl_store *inner_of(struct kl_store *s) { return ((struct kl_store_over *)s)->inner; }

static enum kl_code put(struct kl_store *s, const char *key, struct kl_span bytes, struct kl_err *err)
{
    return inner_of(s)->put(inner_of(s), key, bytes, err);
}

static enum kl_code put_from(struct kl_store *s, const char *key, const struct kl_store_feed *feed,
                             struct kl_err *err)
{
    return kl_store_put_from(inner_of(s), key, feed, err);
}

static enum kl_code head(struct kl_store *s, const char *key, uint64_t *size_bytes, struct kl_err *err)
{
    return inner_of(s)->head(inner_of(s), key, size_bytes, err);
}

static enum kl_code list(struct kl_store *s, const char *prefix,
                         void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                         struct kl_err *err)
{
    return inner_of(s)->list(inner_of(s), prefix, each, ctx, err);
}

static enum kl_code remove_object(struct kl_store *s, const char *key, struct kl_err *err)
{
    return inner_of(s)->remove(inner_of(s), key, err);
}

static void cancel(struct kl_store *s) { kl_store_cancel(inner_of(s)); }

void kl_store_over_init(struct kl_store_over *o, struct kl_store *inner)
{
    *o = (struct kl_store_over){ .inner = inner,
                                 .store = { .put = put, .put_from = put_from, .head = head, .list = list,
                                            .remove = remove_object,
                                            .cancel = inner->cancel != NULL ? cancel : NULL } };
}
