#include "doorman/tenants.h"

#include "libkoal/base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 2 * DM_TENANTS_MAX };

struct tenant { uint64_t hash; size_t size; char *name; };
struct dm_tenants {
    uint32_t       count, room;
    struct tenant *all;
    uint32_t       slots[SLOTS];                       /* number + 1; 0: empty */
};

struct dm_tenants *dm_tenants_new(void) { return kl_new(sizeof(struct dm_tenants)); }

void dm_tenants_reset(struct dm_tenants *t)
{
    for (uint32_t i = 0; i < t->count; i++)
        free(t->all[i].name);
    t->count = 0;
    memset(t->slots, 0, sizeof t->slots);
}

void dm_tenants_free(struct dm_tenants *t)
{
    if (t == NULL)
        return;
    dm_tenants_reset(t);
    free(t->all);
    free(t);
}

static void add(struct dm_tenants *t, uint32_t slot, struct kl_span name, uint64_t hash)
{
    struct tenant *x;

    if (t->count == t->room) {
        t->room = t->room == 0 ? 16 : t->room * 2;
        t->all = kl_resize(t->all, t->room * sizeof *t->all);
    }
    x = &t->all[t->count++];
    *x = (struct tenant){ .hash = hash, .size = name.size, .name = kl_new(name.size + 1) };
    if (name.size > 0)
        memcpy(x->name, name.at, name.size);
    t->slots[slot] = t->count;
}

bool dm_tenants_number(struct dm_tenants *t, struct kl_span name, uint32_t *number, uint64_t *hash)
{
    uint64_t h = kl_hash64(name.at, name.size);
    uint32_t slot = (uint32_t)(h % SLOTS);

    for (; t->slots[slot] != 0; slot = (slot + 1) % SLOTS) {
        const struct tenant *x = &t->all[t->slots[slot] - 1];
        if (x->hash == h && x->size == name.size && memcmp(x->name, name.at, name.size) == 0)
            break;
    }
    if (t->slots[slot] == 0) {
        if (t->count == DM_TENANTS_MAX)
            return false;
        add(t, slot, name, h);
    }
    *number = t->slots[slot] - 1;
    *hash = h;
    return true;
}
