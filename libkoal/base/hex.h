#ifndef KL_HEX_H
#define KL_HEX_H
/* Bytes as hexadecimal text, and back. Pure. */
#include <stdbool.h>
#include <stddef.h>

/* Lower-case; `out` has 2 * size + 1 bytes. */
void kl_hex(const void *bytes, size_t size, char *out);
/* Exactly `size` bytes of either case, and nothing after. */
bool kl_unhex(const char *text, size_t text_size, void *out, size_t size);
#endif
