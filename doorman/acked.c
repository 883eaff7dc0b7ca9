#include "doorman/acked.h"

#include "libkoal/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { WAYS = 4, SETS = DM_ACKED_MAX / WAYS };

struct entry { struct kl_fp key; uint32_t until_s; size_t words; uint64_t *bits; };   /* words 0: empty */
struct dm_acked { size_t count; struct entry all[SETS][WAYS]; };

struct dm_acked *dm_acked_new(void) { return kl_new(sizeof(struct dm_acked)); }

static void forget(struct dm_acked *a, struct entry *e)
{
    free(e->bits);
    *e = (struct entry){ 0 };
    a->count--;
}

void dm_acked_clear(struct dm_acked *a)
{
    for (size_t i = 0; i < SETS && a->count > 0; i++)
        for (size_t k = 0; k < WAYS; k++)
            if (a->all[i][k].words > 0)
                forget(a, &a->all[i][k]);
}

void dm_acked_free(struct dm_acked *a)
{
    if (a == NULL)
        return;
    dm_acked_clear(a);
    free(a);
}

static struct entry *find(struct dm_acked *a, struct kl_fp key)
{
    struct entry *set = a->all[key.lo % SETS];

    for (size_t k = 0; k < WAYS && a->count > 0; k++)
        if (set[k].words > 0 && kl_fp_cmp(set[k].key, key) == 0)
            return &set[k];
    return NULL;
}

bool dm_acked_find(struct dm_acked *a, struct kl_fp key, uint32_t now_s, uint64_t *bits, size_t words)
{
    struct entry *e = find(a, key);

    if (e == NULL)
        return false;
    if (now_s > e->until_s || e->words != words) {
        forget(a, e);
        return false;
    }
    memcpy(bits, e->bits, words * sizeof *bits);
    return true;
}

void dm_acked_put(struct dm_acked *a, struct kl_fp key, uint32_t now_s, const uint64_t *bits, size_t words)
{
    struct entry *set = a->all[key.lo % SETS], *e = find(a, key);

    if (words == 0)
        return;
    for (size_t k = 0; k < WAYS && e == NULL; k++)
        if (set[k].words == 0)
            e = &set[k];
    if (e == NULL) {
        e = &set[0];
        for (size_t k = 1; k < WAYS; k++)
            if (set[k].until_s < e->until_s)
                e = &set[k];
    }
    if (e->words > 0)
        forget(a, e);
    *e = (struct entry){ .key = key, .until_s = now_s + DM_ACKED_S, .words = words,
                         .bits = kl_new(words * sizeof *bits) };
    memcpy(e->bits, bits, words * sizeof *bits);
    a->count++;
}

void dm_acked_drop(struct dm_acked *a, struct kl_fp key)
{
    struct entry *e = find(a, key);

    if (e != NULL)
        forget(a, e);
}
