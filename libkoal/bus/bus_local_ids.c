/*
 * Ids of records seen in the last two minutes, as fingerprints: two open-addressed tables, the
 * present two minutes' and the two minutes' before. When the younger has grown old the older is
 * emptied and takes its place, so nothing is ever deleted one by one.
 */
#include "libkoal/bus/bus_local_priv.h"

#include "libkoal/base/hash.h"

#include <stdlib.h>
#include <string.h>

struct slot { struct kl_fp fp; uint64_t seq; int64_t when_ms; };       /* seq 0: free */
struct table { struct slot *at; size_t room, used; };
struct kl_busl_ids { struct table young, old; int64_t since_ms; };

static struct kl_fp key(uint32_t partition, struct kl_span id)
{
    uint8_t bytes[4 + KL_BUS_ID_MAX];

    memcpy(bytes, &partition, 4);
    memcpy(bytes + 4, id.at, id.size);
    return kl_hash128(bytes, 4 + id.size);
}

static struct slot *look(const struct table *t, struct kl_fp fp)
{
    if (t->room == 0)
        return NULL;
    for (size_t i = fp.lo & (t->room - 1);; i = (i + 1) & (t->room - 1))
        if (t->at[i].when_ms == 0 || kl_fp_cmp(t->at[i].fp, fp) == 0)
            return &t->at[i];
}

/* Room for one more at a load of a half; when_ms of a used slot is never 0. */
static bool grow(struct table *t)
{
    struct table bigger;

    if (t->used < t->room / 2)
        return true;
    if (t->used >= KL_BUSL_IDS_MAX)
        return false;
    bigger = (struct table){ .room = t->room > 0 ? 2 * t->room : 1024, .used = t->used };
    bigger.at = kl_new(bigger.room * sizeof *bigger.at);
    for (size_t i = 0; i < t->room; i++)
        if (t->at[i].when_ms != 0)
            *look(&bigger, t->at[i].fp) = t->at[i];
    free(t->at);
    *t = bigger;
    return true;
}

struct kl_busl_ids *kl_busl_ids_new(void) { return kl_new(sizeof(struct kl_busl_ids)); }

void kl_busl_ids_free(struct kl_busl_ids *t)
{
    if (t == NULL)
        return;
    free(t->young.at);
    free(t->old.at);
    free(t);
}

static void turn(struct kl_busl_ids *t, int64_t now_ms)
{
    if (t->since_ms == 0)
        t->since_ms = now_ms;
    if (now_ms - t->since_ms <= KL_BUSL_ID_WINDOW_MS)
        return;
    free(t->old.at);
    t->old = t->young;
    t->young = (struct table){ 0 };
    t->since_ms = now_ms;
}

static struct slot *find(struct kl_busl_ids *t, struct kl_fp fp)
{
    struct slot *s = look(&t->young, fp);

    if (s == NULL || s->seq == 0)
        s = look(&t->old, fp);
    return s != NULL && s->seq != 0 ? s : NULL;
}

uint64_t kl_busl_ids_find(struct kl_busl_ids *t, uint32_t partition, struct kl_span id,
                          int64_t now_ms)
{
    struct slot *s;

    turn(t, now_ms);
    s = find(t, key(partition, id));
    return s != NULL && now_ms - s->when_ms <= KL_BUSL_ID_WINDOW_MS ? s->seq : 0;
}

bool kl_busl_ids_add(struct kl_busl_ids *t, uint32_t partition, struct kl_span id, uint64_t seq,
                     int64_t when_ms, int64_t now_ms)
{
    struct kl_fp fp = key(partition, id);
    struct slot *s;

    turn(t, now_ms);
    if (!grow(&t->young))
        return false;
    s = look(&t->young, fp);
    t->young.used += s->when_ms == 0;
    *s = (struct slot){ .fp = fp, .seq = seq, .when_ms = when_ms };
    return true;
}

void kl_busl_ids_forget(struct kl_busl_ids *t, uint32_t partition, struct kl_span id)
{
    struct slot *s = look(&t->young, key(partition, id));

    if (s != NULL)
        s->seq = 0;
}
