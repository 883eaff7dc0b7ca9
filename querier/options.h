#ifndef QR_OPTIONS_H
#define QR_OPTIONS_H
/* The querier's options out of the configuration; `log` and `metrics` are left for the caller. Pure. */
#include "libkoal/base/config.h"
#include "querier/querier.h"

void qr_options_read(const struct kl_config *c, struct qr_options *o);
#endif
