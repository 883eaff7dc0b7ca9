#ifndef KL_ADDRESS_H
#define KL_ADDRESS_H
/*
 * Addresses, with commas between them, as people may read them: in logs, in errors, in /config. What stands before
 * the @ of one is a secret, and three stars are shown for it.
 */
#include "libkoal/base/buf.h"

void kl_address_show(struct kl_buf *out, const char *addresses);
#endif
