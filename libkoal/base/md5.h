#ifndef KL_MD5_H
#define KL_MD5_H
/* MD5 (RFC 1321), for the one place where others chose it: relabelling's hashmod. Pure. */
#include <stdint.h>

#include "libkoal/base/mem.h"

void kl_md5(struct kl_span bytes, uint8_t digest[16]);
#endif
