#ifndef ING_OPTIONS_H
#define ING_OPTIONS_H
/* The ingestor's options out of the configuration, whose texts they borrow; `log` and `metrics` are
 * left for the caller. Pure. */
#include "ingestor/ingestor.h"
#include "libkoal/base/config.h"

void ing_options_read(const struct kl_config *c, struct ing_options *o);
#endif
