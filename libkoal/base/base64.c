#include "libkoal/base/base64.h"

void kl_base64(struct kl_buf *out, struct kl_span bytes, bool padded)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *at = bytes.at;

    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t   left = bytes.size - i;
        uint32_t v = (uint32_t)at[i] << 16 | (left > 1 ? (uint32_t)at[i + 1] << 8 : 0) | (left > 2 ? at[i + 2] : 0);
        char     four[4] = { digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                             left > 2 ? digits[v & 63] : '=' };

        kl_buf_add(out, four, padded || left > 2 ? 4 : left + 1);
    }
}
