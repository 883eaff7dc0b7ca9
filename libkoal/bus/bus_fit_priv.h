#ifndef KL_BUS_FIT_PRIV_H
#define KL_BUS_FIT_PRIV_H
/* What every bus refuses before it does anything: KL_EINVAL or KL_ELIMIT, with words. Pure. */
#include "libkoal/bus/bus.h"

enum kl_code kl_bus_fit_partition(uint32_t partition, uint32_t partitions, struct kl_err *err);
enum kl_code kl_bus_fit_append(const struct kl_bus_append *op, uint32_t partitions,
                               struct kl_err *err);
/* Dots make the tokens; nothing that NATS reads as a pattern or a space. Not the log's own. */
bool         kl_bus_fit_subject(const char *subject);
enum kl_code kl_bus_fit_ask(const struct kl_bus_ask *op, struct kl_err *err);
enum kl_code kl_bus_fit_kv(const struct kl_bus_kv *op, struct kl_err *err);
#endif
