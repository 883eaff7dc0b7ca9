#ifndef DM_TENANTS_H
#define DM_TENANTS_H
/*
 * Tenants by number, so that a remembered series names its tenant in four bytes. Bounded: past
 * DM_TENANTS_MAX there is no number for a new one, and the gate forgets tenants and series together.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/mem.h"

enum { DM_TENANTS_MAX = 64 * 1024 };

struct dm_tenants;
struct dm_tenants *dm_tenants_new(void);
void dm_tenants_free(struct dm_tenants *t);
/* The name's number, a new one if need be, and a hash to mix into keys. False: they are too many. */
bool dm_tenants_number(struct dm_tenants *t, struct kl_span name, uint32_t *number, uint64_t *hash);
void dm_tenants_reset(struct dm_tenants *t);
#endif
