#ifndef DM_TOLD_H
#define DM_TOLD_H
/*
 * Pushes that come by another way than HTTP, whose server gives each request its id and its span: over
 * NATS, and over gRPC. They enter and leave here; what is between is traced as any push is.
 */
#include "doorman/doorman.h"

struct dm_entry {
    struct kl_tracer *tracer;                          /* may be NULL */
    struct kl_env *env;
    uint8_t above[8];                                  /* its sender's span */
    int64_t begun_ns;
};
/* Fills p->trace and p->request_id from what its sender says; either may be NULL. */
void dm_told_enter(struct dm_entry *e, struct dm_push *p, const char *request_id, const char *traceparent);
/* It has been answered, with HTTP's status. */
void dm_told_leave(const struct dm_entry *e, const struct dm_push *p, const char *name, unsigned status);
#endif
