#ifndef QR_READ_BITS_PRIV_H
#define QR_READ_BITS_PRIV_H
/* Bits, most significant first, and XORed values within windows: what Prometheus' chunks are made of. */
#include "querier/read_priv.h"

struct qr_bits { struct kl_buf *out; uint8_t byte; unsigned used; };
void qr_put_bit(struct qr_bits *b, unsigned bit);
void qr_put_bits(struct qr_bits *b, uint64_t v, unsigned n);
void qr_bits_end(struct qr_bits *b);                   /* the last byte, filled up */
/* Does v lie in the n-bit class, -(2^(n-1)-1) .. 2^(n-1)? */
bool qr_fits(int64_t v, unsigned n);

struct qr_window { unsigned leading, trailing; bool any; };
void qr_put_value(struct qr_bits *b, uint64_t delta, struct qr_window *w);
#endif
