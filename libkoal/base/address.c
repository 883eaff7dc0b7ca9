#include "libkoal/base/address.h"

#include <string.h>

void kl_address_show(struct kl_buf *out, const char *text)
{
    const char *mark;

    while ((mark = strstr(text, "://")) != NULL) {
        const char *host = mark + 3, *end = host + strcspn(host, ",/");

        kl_buf_add(out, text, (size_t)(host - text));
        text = host;
        for (const char *at = host; at < end; at++)    /* the last: a password may have one of its own */
            if (*at == '@')
                text = at;
        if (*text == '@')
            kl_buf_adds(out, "***");
    }
    kl_buf_adds(out, text);
}
