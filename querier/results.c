/*
 * Pieces of answers to range queries, kept in memory by what was asked: tenant, text, step, the phase of
 * the steps, lookback. A piece stands for some steps in a row of one stretch of time, or of a block of
 * stretches (reuse.c chooses how long they are); whether it still holds is for reuse.c to find out. A
 * shard's, on its loop; pieces themselves never change, and workers that hold a reference may read them.
 *
 * Past the bound the question that was asked longest ago goes, with all its pieces. One question may
 * have a quarter of the room: then its oldest pieces go.
 */
#include <assert.h>
#include <stdlib.h>

#include "querier/reuse_priv.h"

#include "libkoal/base/sorted.h"

enum { BUCKETS = 1024 };                               /* a power of two */

struct qr_kept_query {
    uint64_t hash;
    void    *key; size_t key_size;
    struct qr_piece **pieces; uint32_t count, room;    /* rising numbers; of one number, rising parts */
    size_t   bytes;
    struct qr_kept_query *chain, *newer, *older;
};

static struct qr_kept_query *find(struct qr_results *r, struct kl_span key, uint64_t hash)
{
    if (r->buckets == NULL)
        return NULL;
    for (struct qr_kept_query *q = r->buckets[hash & (BUCKETS - 1)]; q != NULL; q = q->chain)
        if (q->hash == hash && kl_span_eq(kl_span(q->key, q->key_size), key))
            return q;
    return NULL;
}

static void unlist(struct qr_results *r, struct qr_kept_query *q)
{
    *(q->newer != NULL ? &q->newer->older : &r->newest) = q->older;
    *(q->older != NULL ? &q->older->newer : &r->oldest) = q->newer;
    q->newer = q->older = NULL;
}

static void list(struct qr_results *r, struct qr_kept_query *q)
{
    q->older = r->newest;
    q->newer = NULL;
    *(r->newest != NULL ? &r->newest->newer : &r->oldest) = q;
    r->newest = q;
}

static void forget(struct qr_results *r, struct qr_kept_query *q)
{
    struct qr_kept_query **at = &r->buckets[q->hash & (BUCKETS - 1)];

    unlist(r, q);
    while (*at != q)
        at = &(*at)->chain;
    *at = q->chain;
    r->bytes -= q->bytes;
    for (uint32_t i = 0; i < q->count; i++)
        qr_piece_unref(q->pieces[i]);
    free(q->pieces);
    free(q->key);
    free(q);
}

void qr_results_forget(struct qr_results *r, struct kl_span key, uint64_t hash)
{
    struct qr_kept_query *q = find(r, key, hash);

    if (q != NULL)
        forget(r, q);
}

void qr_results_close(struct qr_results *r)
{
    while (r->oldest != NULL)
        forget(r, r->oldest);
    free(r->buckets);
    r->buckets = NULL;
}

void qr_results_bound(struct qr_results *r, size_t bytes_max)
{
    r->bytes_max = bytes_max;
    while (r->bytes > bytes_max && r->oldest != NULL)
        forget(r, r->oldest);
}

/* The index of the first piece that is not before that. */
static uint32_t place(const struct qr_kept_query *q, int64_t number, uint32_t parts)
{
    return KL_FIRST(i, q->count, q->pieces[i]->number > number ||
                    (q->pieces[i]->number == number && q->pieces[i]->parts >= parts));
}

struct qr_kept_query *qr_results_find(struct qr_results *r, struct kl_span key, uint64_t hash)
{
    struct qr_kept_query *q = find(r, key, hash);

    if (q != NULL) {
        unlist(r, q);
        list(r, q);
    }
    return q;
}

static bool is_at(const struct qr_kept_query *q, uint32_t i, int64_t number, uint32_t parts)
{
    return i < q->count && q->pieces[i]->number == number && q->pieces[i]->parts == parts;
}

struct qr_piece *qr_results_piece(const struct qr_kept_query *q, int64_t number, uint32_t parts)
{
    uint32_t i = q != NULL ? place(q, number, parts) : 0;

    return q != NULL && is_at(q, i, number, parts) ? q->pieces[i] : NULL;
}

bool qr_results_any(const struct qr_kept_query *q, int64_t first, int64_t last)
{
    for (uint32_t i = 0; q != NULL && i < q->count && q->pieces[i]->number <= last; i++)
        if (q->pieces[i]->number + q->pieces[i]->parts > first)
            return true;
    return false;
}

static struct qr_kept_query *make(struct qr_results *r, struct kl_span key, uint64_t hash)
{
    struct qr_kept_query *q = kl_new(sizeof *q);

    if (r->buckets == NULL)
        r->buckets = kl_new(BUCKETS * sizeof *r->buckets);
    q->hash = hash;
    q->key = kl_resize(NULL, key.size);
    memcpy(q->key, key.at, key.size);
    q->key_size = key.size;
    q->bytes = sizeof *q + key.size;
    q->chain = r->buckets[hash & (BUCKETS - 1)];
    r->buckets[hash & (BUCKETS - 1)] = q;
    r->bytes += q->bytes;
    list(r, q);
    return q;
}

static void drop_piece(struct qr_results *r, struct qr_kept_query *q, uint32_t i)
{
    q->bytes -= q->pieces[i]->bytes;
    r->bytes -= q->pieces[i]->bytes;
    qr_piece_unref(q->pieces[i]);
    memmove(q->pieces + i, q->pieces + i + 1, (q->count - i - 1) * sizeof *q->pieces);
    q->count--;
}

void qr_results_put(struct qr_results *r, struct kl_span key, uint64_t hash, struct qr_piece *take)
{
    struct qr_kept_query *q = find(r, key, hash);
    uint32_t              i;

    if (take->bytes + key.size > r->bytes_max / 4) {
        qr_piece_unref(take);
        return;
    }
    if (q == NULL)
        q = make(r, key, hash);
    i = place(q, take->number, 1);
    while (take->parts > 1 && i < q->count && q->pieces[i]->number < take->number + take->parts)
        drop_piece(r, q, i);                           /* it has all that they had */
    if (is_at(q, i, take->number, take->parts))
        drop_piece(r, q, i);
    i = place(q, take->number, take->parts);
    if (q->count == q->room) {
        q->room = q->room == 0 ? 8 : q->room * 2;
        q->pieces = kl_resize(q->pieces, q->room * sizeof *q->pieces);
    }
    memmove(q->pieces + i + 1, q->pieces + i, (q->count - i) * sizeof *q->pieces);
    q->pieces[i] = take;
    q->count++;
    q->bytes += take->bytes;
    r->bytes += take->bytes;
    while (q->bytes > r->bytes_max / 4 && q->count > 1)
        drop_piece(r, q, q->pieces[0] == take ? 1 : 0);
    while (r->bytes > r->bytes_max && r->oldest != q)
        forget(r, r->oldest);
}
