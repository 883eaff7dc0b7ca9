#ifndef KL_BASE64_H
#define KL_BASE64_H
/* Base64 with + and / (RFC 4648, section 4), appended to `out`; `padded`: with = to a multiple of four. Pure. */
#include <stdbool.h>

#include "libkoal/base/buf.h"

void kl_base64(struct kl_buf *out, struct kl_span bytes, bool padded);
#endif
