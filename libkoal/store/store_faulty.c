/*
 * A store that misbehaves by seed: calls fail before or after they had their effect, bytes arrive cut
 * short, lists are as they were a while ago, and at times nothing answers at all.
 */
#include "libkoal/store/store.h"

#include <stdlib.h>
#include <string.h>

enum { RECENT = 16, LISTED_MAX = 1000000 };

struct key { char *key; uint64_t size; };
struct faulty {
    struct kl_store         store;
    struct kl_store        *inner;
    struct kl_store_faults *f;
    struct { char key[KL_STORE_KEY_MAX + 1]; uint64_t size; bool put; } recent[RECENT];
    unsigned next;
};

static uint64_t draw(struct kl_store_faults *f)
{
    uint64_t z = f->seed += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static bool happens(struct kl_store_faults *f, unsigned per_mille)
{
    bool now = per_mille > 0 && draw(f) % 1000 < per_mille;

    f->count += now;
    return now;
}

static enum kl_code away(struct kl_err *err)
{
    return kl_fail(err, KL_EAGAIN, "the store is out of reach (a fault that was asked for)");
}

static enum kl_code lost(struct kl_err *err)
{
    return kl_fail(err, KL_EAGAIN, "the store's answer got lost (a fault that was asked for)");
}

static bool refuses(struct faulty *s)
{
    if (s->f->down)
        s->f->count++;
    return s->f->down || happens(s->f, s->f->before);
}

static void remember(struct faulty *s, const char *key, uint64_t size, bool put)
{
    unsigned n = s->next++ % RECENT;

    strcpy(s->recent[n].key, key);
    s->recent[n].size = size;
    s->recent[n].put = put;
}

static enum kl_code put(struct kl_store *store, const char *key, struct kl_span bytes,
                        struct kl_err *err)
{
    struct faulty *s = (struct faulty *)store;
    enum kl_code   code;

    if (refuses(s))
        return away(err);
    code = s->inner->put(s->inner, key, bytes, err);
    if (code == KL_OK)
        remember(s, key, bytes.size, true);
    return happens(s->f, s->f->after) ? lost(err) : code;
}

static enum kl_code put_from(struct kl_store *store, const char *key, const struct kl_store_feed *feed,
                             struct kl_err *err)
{
    struct faulty *s = (struct faulty *)store;
    enum kl_code   code;

    if (refuses(s))
        return away(err);
    code = kl_store_put_from(s->inner, key, feed, err);
    if (code == KL_OK)
        remember(s, key, feed->size_bytes, true);
    return happens(s->f, s->f->after) ? lost(err) : code;
}

static enum kl_code get(struct kl_store *store, const char *key, uint64_t offset, void *bytes,
                        size_t size, struct kl_err *err)
{
    struct faulty *s = (struct faulty *)store;
    enum kl_code   code;

    if (refuses(s))
        return away(err);
    code = s->inner->get(s->inner, key, offset, bytes, size, err);
    if (code == KL_OK && size > 0 && happens(s->f, s->f->cut)) {
        size_t n = (size_t)(draw(s->f) % size);
        memset((char *)bytes + n, 0xdb, size - n);     /* whoever uses them shall see it */
        return kl_fail(err, KL_EAGAIN, "%zu bytes of %zu came (a fault that was asked for)", n, size);
    }
    return code;
}

static enum kl_code head(struct kl_store *store, const char *key, uint64_t *size_bytes,
                         struct kl_err *err)
{
    struct faulty *s = (struct faulty *)store;

    return refuses(s) ? away(err) : s->inner->head(s->inner, key, size_bytes, err);
}

static enum kl_code remove_object(struct kl_store *store, const char *key, struct kl_err *err)
{
    struct faulty *s = (struct faulty *)store;
    uint64_t       size;
    struct kl_err  unheard;
    enum kl_code   code;

    if (refuses(s))
        return away(err);
    if (kl_store_key_fit(key) && s->inner->head(s->inner, key, &size, &unheard) == KL_OK)
        remember(s, key, size, false);
    code = s->inner->remove(s->inner, key, err);
    return happens(s->f, s->f->after) ? lost(err) : code;
}

/* ---- lists ---- */

struct listing { struct key *at; size_t count, room; };

static void keep(void *ctx, const char *key, uint64_t size_bytes)
{
    struct listing *l = ctx;

    if (l->count == LISTED_MAX)
        return;
    if (l->count == l->room) {
        l->room = l->room == 0 ? 64 : 2 * l->room;
        l->at = kl_resize(l->at, l->room * sizeof *l->at);
    }
    l->at[l->count++] = (struct key){ kl_strdup(key), size_bytes };
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct key *)a)->key, ((const struct key *)b)->key);
}

/* As it was before some of the latest changes. */
static void make_stale(struct faulty *s, const char *prefix, struct listing *l)
{
    for (unsigned i = 0; i < RECENT; i++) {
        size_t at = 0;

        if (s->recent[i].key[0] == '\0' || draw(s->f) % 2 ||
            strncmp(s->recent[i].key, prefix, strlen(prefix)) != 0)
            continue;
        while (at < l->count && strcmp(l->at[at].key, s->recent[i].key) != 0)
            at++;
        if (s->recent[i].put && at < l->count) {
            free(l->at[at].key);
            l->at[at] = l->at[--l->count];
        } else if (!s->recent[i].put && at == l->count) {
            keep(l, s->recent[i].key, s->recent[i].size);
        }
    }
    if (l->count > 0)
        qsort(l->at, l->count, sizeof *l->at, by_key);
}

static enum kl_code list(struct kl_store *store, const char *prefix,
                         void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                         struct kl_err *err)
{
    struct faulty *s = (struct faulty *)store;
    struct listing l = { 0 };
    size_t         count;
    enum kl_code   code;

    if (refuses(s))
        return away(err);
    code = s->inner->list(s->inner, prefix, keep, &l, err);
    if (code == KL_OK && happens(s->f, s->f->stale))
        make_stale(s, prefix, &l);
    count = l.count;
    if (code == KL_OK && happens(s->f, s->f->cut)) {
        count = (size_t)(draw(s->f) % (l.count + 1));
        code = lost(err);
    }
    for (size_t i = 0; i < count; i++)
        each(ctx, l.at[i].key, l.at[i].size);
    for (size_t i = 0; i < l.count; i++)
        free(l.at[i].key);
    free(l.at);
    return code;
}

static void cancel(struct kl_store *s) { kl_store_cancel(((struct faulty *)s)->inner); }

static void close_store(struct kl_store *store)
{
    struct faulty *s = (struct faulty *)store;

    s->inner->close(s->inner);
    free(s);
}

struct kl_store *kl_store_faulty_new(struct kl_store *inner, struct kl_store_faults *faults)
{
    struct faulty *s = kl_new(sizeof *s);

    s->store = (struct kl_store){ .put = put, .put_from = put_from, .get = get, .head = head, .list = list,
                                  .remove = remove_object, .cancel = inner->cancel != NULL ? cancel : NULL,
                                  .close = close_store };
    s->inner = inner;
    s->f = faults;
    return &s->store;
}
