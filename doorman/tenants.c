#include "doorman/tenants.h"

#include "libkoal/base/config.h"
#include "libkoal/base/hash.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS = 2 * DM_TENANTS_MAX };

struct dm_tenants {
    uint32_t count, room;
    struct dm_tenant **all;
    uint32_t slots[SLOTS];                             /* number + 1; 0: empty */
};

bool dm_tenant_fit(const char *sent, char *out, size_t size)
{
    if (sent == NULL || sent[0] == '\0')
        sent = "anonymous";
    if (strlen(sent) >= size || !kl_tenant_ok(kl_span_str(sent)))
        return false;
    strcpy(out, sent);
    return true;
}

struct dm_tenants *dm_tenants_new(void) { return kl_new(sizeof(struct dm_tenants)); }

void dm_tenants_reset(struct dm_tenants *t)
{
    for (uint32_t i = 0; i < t->count; i++)
        free(t->all[i]);
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

static struct dm_tenant *add(struct dm_tenants *t, uint32_t slot, struct kl_span name, uint64_t hash)
{
    struct dm_tenant *x = kl_new(sizeof *x + name.size + 1);

    if (t->count == t->room) {
        t->room = t->room == 0 ? 16 : t->room * 2;
        t->all = kl_resize(t->all, t->room * sizeof *t->all);
    }
    x->number = t->count;
    x->hash = hash;
    x->size = name.size;
    if (name.size > 0)
        memcpy(x->name, name.at, name.size);
    t->all[t->count++] = x;
    t->slots[slot] = t->count;
    return x;
}

struct dm_tenant *dm_tenants_of(struct dm_tenants *t, struct kl_span name)
{
    uint64_t h = kl_hash64(name.at, name.size);
    uint32_t slot = (uint32_t)(h % SLOTS);

    for (; t->slots[slot] != 0; slot = (slot + 1) % SLOTS) {
        struct dm_tenant *x = t->all[t->slots[slot] - 1];
        if (x->hash == h && x->size == name.size && memcmp(x->name, name.at, name.size) == 0)
            return x;
    }
    return t->count == DM_TENANTS_MAX ? NULL : add(t, slot, name, h);
}

bool dm_tenants_renew(struct dm_tenants *t, struct dm_tenant *old)
{
    uint32_t slot = (uint32_t)(old->hash % SLOTS);

    if (t->count == DM_TENANTS_MAX)
        return false;
    while (t->slots[slot] != old->number + 1)
        slot = (slot + 1) % SLOTS;
    old->retired = true;
    add(t, slot, kl_span(old->name, old->size), old->hash);
    return true;
}

struct dm_tenant *dm_tenants_at(struct dm_tenants *t, uint32_t number)
{
    return number < t->count ? t->all[number] : NULL;
}
