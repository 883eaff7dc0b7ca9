#include "libkoal/store/store.h"

#include <inttypes.h>
#include <stdlib.h>

enum kl_code kl_store_put_from(struct kl_store *s, const char *key, const struct kl_store_feed *feed,
                               struct kl_err *err)
{
    void        *bytes;
    enum kl_code code;

    if (s->put_from != NULL)
        return s->put_from(s, key, feed, err);
    bytes = malloc((size_t)feed->size_bytes + 1);
    if (bytes == NULL)
        return kl_fail(err, KL_ELIMIT, "put object %s: no memory for %" PRIu64 " bytes", key, feed->size_bytes);
    code = feed->read(feed->ctx, 0, bytes, (size_t)feed->size_bytes, err);
    if (code == KL_OK)
        code = s->put(s, key, kl_span(bytes, (size_t)feed->size_bytes), err);
    free(bytes);
    return code;
}
