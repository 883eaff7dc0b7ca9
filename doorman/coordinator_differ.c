/*
 * What members of a partition tell of their cuts (libtsproto/digest.h), compared: for health and status. The
 * alarm is the ingestors'; here it can be seen in one place, and while they are down.
 */
#include "doorman/coordinator_priv.h"

#include "libkoal/base/json.h"

#include <inttypes.h>

enum { WORDS_MAX = 20 };                               /* differences that are written out */

struct list { struct kl_buf *b; uint32_t count; bool json; };

static void change(struct kl_bus_watch *w, const char *key, struct kl_span value, uint64_t revision)
{
    struct dm_coordinator *c = w->ctx;
    uint32_t               partition;
    struct kl_err          err;

    if (c->o.manage)
        dm_coordinator_keys_see(c, key, value, revision);
    if (!tsp_digests_put(c->digests, key, value, &partition, &err))
        kl_logf(c->o.log, KL_DEBUG, "coordinator: the key %s: %s", key, err.text);
}

static void current(struct kl_bus_watch *w)
{
    struct dm_coordinator *c = w->ctx;

    c->digests_current = true;
}

void dm_coordinator_differ_watch(struct dm_coordinator *c)
{
    c->digest_watch = (struct kl_bus_watch){ .prefix = TSP_DIGEST_PREFIX, .loop = c->loop, .change = change,
                                             .current = current, .ctx = c };
    c->bus->watch(c->bus, &c->digest_watch);
}

static void put(void *ctx, const struct tsp_difference *x)
{
    struct list *l = ctx;
    char         words[TSP_DIGEST_WORDS_MAX];

    if (l->count++ >= WORDS_MAX)
        return;
    tsp_difference_words(x, words, sizeof words);
    if (l->json) {
        kl_buf_adds(l->b, l->count == 1 ? "" : ",");
        kl_json_cstr(l->b, words);
    } else {
        kl_buf_addf(l->b, "%s  %s\n", l->count == 1 ? "\nDIFFERENCES\n" : "", words);
    }
}

uint32_t dm_coordinator_differ_count(const struct dm_coordinator *c)
{
    return tsp_digests_differ(c->digests, UINT32_MAX, NULL, NULL, NULL);
}

void dm_coordinator_differ_json(const struct dm_coordinator *c, struct kl_buf *b)
{
    struct list l = { .b = b, .json = true };

    kl_buf_adds(b, "\"differences\":[");
    tsp_digests_differ(c->digests, UINT32_MAX, put, &l, NULL);
    kl_buf_adds(b, "]");
}

void dm_coordinator_differ_text(const struct dm_coordinator *c, struct kl_buf *b)
{
    struct list l = { .b = b };

    tsp_digests_differ(c->digests, UINT32_MAX, put, &l, NULL);
    if (l.count > WORDS_MAX)
        kl_buf_addf(b, "  and %" PRIu32 " more\n", l.count - WORDS_MAX);
}
