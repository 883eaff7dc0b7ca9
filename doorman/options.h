#ifndef DM_OPTIONS_H
#define DM_OPTIONS_H
/* The doorman's options out of the configuration; `log` and `metrics` are left for the caller. Pure. */
#include "doorman/doorman.h"
#include "doorman/spreader.h"
#include "libkoal/base/config.h"

void dm_options_read(const struct kl_config *c, struct dm_options *o);
void dm_spreader_options_read(const struct kl_config *c, struct dm_spreader_options *o);
#endif
