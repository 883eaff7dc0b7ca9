/*
 * The order of label sets, kept. A query wants its series by their labels, and they come by their
 * fingerprints; a dashboard asks for the same ones again and again. A fingerprint is a hash of the
 * labels, so the same run of fingerprints has the same order: it is looked up by a hash of 128 bits.
 *
 * Without locks, as libblock/keep.c does it: workers fill slots and read them between enter and leave;
 * the loop empties them while nobody reads. What was not used from one trim to the next goes.
 */
#include <limits.h>
#include <stdlib.h>

#include "querier/qr_priv.h"

enum { LEAST = 32, MOST = 1 << 17, BYTES_MAX = 4 << 20, TRIM_EVERY_MS = 500 };
enum { TRIMMING = INT_MIN / 2 };

struct qr_known_order {
    struct kl_fp key;
    size_t count;
    atomic_bool used;
    uint32_t index[];
};

static size_t bytes_of(size_t count) { return sizeof(struct qr_known_order) + count * sizeof(uint32_t); }

static bool enter(struct qr_orders *o)
{
    if (atomic_fetch_add(&o->readers, 1) >= 0)
        return true;
    atomic_fetch_sub(&o->readers, 1);
    return false;
}

static void leave(struct qr_orders *o) { atomic_fetch_sub(&o->readers, 1); }

bool qr_orders_get(struct qr_orders *o, struct kl_fp key, uint32_t *index, size_t count)
{
    bool found = false;

    if (count < LEAST || !enter(o))
        return false;
    for (unsigned i = 0; i < QR_ORDERS_MAX && !found; i++) {
        struct qr_known_order *x = atomic_load(&o->at[i]);

        if (x == NULL || x->count != count || kl_fp_cmp(x->key, key) != 0)
            continue;
        memcpy(index, x->index, count * sizeof *index);
        atomic_store_explicit(&x->used, true, memory_order_relaxed);
        found = true;
    }
    leave(o);
    return found;
}

void qr_orders_put(struct qr_orders *o, struct kl_fp key, const uint32_t *index, size_t count)
{
    struct qr_known_order *x;
    bool          placed = false;

    if (count < LEAST || count > MOST || !enter(o))
        return;
    if (atomic_fetch_add(&o->bytes, bytes_of(count)) + bytes_of(count) <= BYTES_MAX) {
        x = kl_resize(NULL, bytes_of(count));
        x->key = key;
        x->count = count;
        atomic_init(&x->used, true);
        memcpy(x->index, index, count * sizeof *index);
        for (unsigned i = 0; i < QR_ORDERS_MAX && !placed; i++) {
            struct qr_known_order *none = NULL;

            placed = atomic_compare_exchange_strong(&o->at[i], &none, x);
        }
        if (!placed)
            free(x);
    }
    if (!placed)
        atomic_fetch_sub(&o->bytes, bytes_of(count));
    atomic_store(&o->full, !placed);
    leave(o);
}

static void drop(struct qr_orders *o, unsigned i, bool all)
{
    struct qr_known_order *x = atomic_load(&o->at[i]);

    if (x == NULL || (atomic_exchange(&x->used, false) && !all))
        return;
    atomic_store(&o->at[i], NULL);
    atomic_fetch_sub(&o->bytes, bytes_of(x->count));
    free(x);
}

void qr_orders_trim(struct qr_orders *o, int64_t now_ns)
{
    int none = 0;

    if (!atomic_load(&o->full) || now_ns - o->trimmed_ns < INT64_C(1000000) * TRIM_EVERY_MS ||
        !atomic_compare_exchange_strong(&o->readers, &none, TRIMMING))
        return;
    o->trimmed_ns = now_ns;
    atomic_store(&o->full, false);
    for (unsigned i = 0; i < QR_ORDERS_MAX; i++)
        drop(o, i, false);
    atomic_fetch_sub(&o->readers, TRIMMING);
}

void qr_orders_free(struct qr_orders *o)
{
    for (unsigned i = 0; i < QR_ORDERS_MAX; i++)
        drop(o, i, true);
}
