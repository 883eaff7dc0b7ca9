#ifndef KL_BUS_OPTIONS_H
#define KL_BUS_OPTIONS_H
/* The bus as the configuration describes it; the texts belong to the config, which must outlive
 * the bus. Pure. */
#include "libkoal/base/config.h"
#include "libkoal/bus/bus.h"

void kl_bus_local_options_read(const struct kl_config *c, struct kl_bus_local_options *o);
void kl_bus_nats_options_read(const struct kl_config *c, struct kl_bus_nats_options *o);
#endif
