#ifndef DM_TENANTS_H
#define DM_TENANTS_H
/*
 * Tenants by number, so that a remembered series names its tenant in two bytes. Bounded: past
 * DM_TENANTS_MAX there is no number for a new one, and the gate forgets tenants and series together.
 *
 * Active is a series that was sent in this period of DM_ACTIVE_S seconds or the one before: one that
 * stops is counted for ten to twenty minutes more. `active` counts this gate's by the period in which
 * they were last sent.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/mem.h"

enum { DM_TENANTS_MAX = 64 * 1024 };
enum { DM_ACTIVE_S = 600 };

struct dm_policy;
struct dm_share;
struct dm_tenant {
    uint32_t number;
    uint64_t hash;                                     /* to mix into keys */
    const struct dm_policy *policy;                    /* NULL until the gate has looked it up */
    struct dm_share *share;
    uint16_t period;                                   /* in which active[0] are counted */
    bool     retired;                                  /* another number has its name */
    uint32_t active[2];                                /* of this period, of the one before */
    size_t size; char name[];
};

/* Tenants become folder names and parts of subjects: no path, no wildcard, no blank. Copies what the
 * sender calls himself (NULL or "": "anonymous"); false where that is no name. */
bool dm_tenant_fit(const char *sent, char *out, size_t size);
#define DM_TENANT_WORDS "a tenant is 1 to 150 letters, digits, '.', '_' and '-', and not \".\", \"..\", \"LOCK\", \"ENCRYPTED\" or .put-\n"

struct dm_tenants;
struct dm_tenants *dm_tenants_new(void);
void dm_tenants_free(struct dm_tenants *t);
/* By name, a new one if need be; until the next reset. NULL: they are too many. */
struct dm_tenant *dm_tenants_of(struct dm_tenants *t, struct kl_span name);
/* Another number for the same name, so that what is remembered by the old one is found no more. False:
 * they are too many. */
bool dm_tenants_renew(struct dm_tenants *t, struct dm_tenant *old);
struct dm_tenant *dm_tenants_at(struct dm_tenants *t, uint32_t number);        /* NULL: no such */
void dm_tenants_reset(struct dm_tenants *t);
#endif
