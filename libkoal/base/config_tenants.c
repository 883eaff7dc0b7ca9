/* What is said of some tenants: a view each, found by a hash of the name. */
#include "libkoal/base/config_priv.h"

#include "libkoal/base/hash.h"

#include <stdlib.h>
#include <string.h>

struct entry { char *name; size_t size; struct kl_config *view; };
struct kl_config_tenants {
    struct entry *all;
    uint32_t      count, room;
    uint32_t     *slots, mask;                         /* index + 1; 0: empty; at least two an entry */
};

bool kl_tenant_ok(struct kl_span name)
{
    const char *at = name.at;

    if (name.size == 0 || name.size > KL_TENANT_MAX)
        return false;
    for (size_t i = 0; i < name.size; i++)
        if (!(at[i] >= 'a' && at[i] <= 'z') && !(at[i] >= 'A' && at[i] <= 'Z') &&
            !(at[i] >= '0' && at[i] <= '9') && at[i] != '_' && at[i] != '.' && at[i] != '-')
            return false;
    if (name.size <= 2 && at[0] == '.' && at[name.size - 1] == '.')
        return false;
    return !kl_span_eq(name, kl_span_str("LOCK")) && !kl_span_eq(name, kl_span_str("ENCRYPTED")) &&
           !(name.size >= 5 && memcmp(at, ".put-", 5) == 0);
}

/* The slot that names it, or the empty one where it would be. */
static uint32_t slot_of(const struct kl_config_tenants *t, struct kl_span name)
{
    uint32_t i = (uint32_t)kl_hash64(name.at, name.size) & t->mask;

    for (; t->slots[i] != 0; i = (i + 1) & t->mask) {
        const struct entry *e = &t->all[t->slots[i] - 1];
        if (kl_span_eq(kl_span(e->name, e->size), name))
            break;
    }
    return i;
}

static void grow(struct kl_config_tenants *t)
{
    t->room = t->room == 0 ? 8 : t->room * 2;
    t->all = kl_resize(t->all, t->room * sizeof *t->all);
    free(t->slots);
    t->slots = kl_new((size_t)t->room * 2 * sizeof *t->slots);
    t->mask = t->room * 2 - 1;
    for (uint32_t i = 0; i < t->count; i++)
        t->slots[slot_of(t, kl_span(t->all[i].name, t->all[i].size))] = i + 1;
}

struct kl_config *kl_config_tenant_add(struct kl_config *c, struct kl_span name)
{
    struct kl_config_tenants *t = c->tenants;
    struct entry             *e;
    uint32_t                  slot;

    if (t == NULL)
        t = c->tenants = kl_new(sizeof *t);
    if (t->count == t->room)
        grow(t);
    slot = slot_of(t, name);
    if (t->slots[slot] != 0 || t->count == KL_CONFIG_TENANTS_MAX)
        return NULL;
    e = &t->all[t->count++];
    t->slots[slot] = t->count;
    *e = (struct entry){ .name = kl_new(name.size + 1), .size = name.size,
                         .view = kl_config_view_new(c) };
    memcpy(e->name, name.at, name.size);
    return e->view;
}

struct kl_config *kl_config_view_new(const struct kl_config *all)
{
    struct kl_config *c = kl_new(sizeof *c);

    atomic_init(&c->refs, 1);
    c->table = all->table;
    c->count = all->count;
    c->all = all;
    return c;
}

struct kl_config *kl_config_tenant_view(struct kl_config *c, struct kl_span name)
{
    uint32_t index = c->tenants == NULL ? 0 : c->tenants->slots[slot_of(c->tenants, name)];

    return index == 0 ? NULL : c->tenants->all[index - 1].view;
}

void kl_config_tenants_free(struct kl_config *c)
{
    struct kl_config_tenants *t = c->tenants;

    if (t == NULL)
        return;
    for (uint32_t i = 0; i < t->count; i++) {
        kl_config_drop(t->all[i].view);
        free(t->all[i].name);
    }
    free(t->all);
    free(t->slots);
    free(t);
    c->tenants = NULL;
}

const struct kl_config *kl_config_tenant(const struct kl_config *c, struct kl_span tenant)
{
    uint32_t index;

    if (c->tenants == NULL)
        return c;
    index = c->tenants->slots[slot_of(c->tenants, tenant)];
    return index == 0 ? c : c->tenants->all[index - 1].view;
}

const struct kl_config *kl_config_tenant_at(const struct kl_config *c, size_t i, const char **name)
{
    if (c->tenants == NULL || i >= c->tenants->count)
        return NULL;
    *name = c->tenants->all[i].name;
    return c->tenants->all[i].view;
}
