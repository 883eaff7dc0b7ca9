/* Answers, compressed (RFC 1952) at the fastest level: dashboards sit near. */
#include "libkoal/http/http_priv.h"

#include <zlib.h>

#include <limits.h>
#include <stdlib.h>

enum { GZIP_WINDOW = 15 + 16 };                        /* zlib's way to ask for a gzip header */

bool kl_http_gzip(const char *bytes, size_t size, char **out, size_t *out_size)
{
    z_stream z = { .zalloc = Z_NULL };
    char    *to;
    bool     smaller;

    if (size >= UINT_MAX || deflateInit2(&z, 1, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY))
        return false;
    to = malloc(size);                                 /* past its own size it is of no use */
    z.next_in = (Bytef *)(uintptr_t)bytes;
    z.avail_in = (uInt)size;
    z.next_out = (Bytef *)to;
    z.avail_out = to != NULL ? (uInt)size : 0;
    smaller = to != NULL && deflate(&z, Z_FINISH) == Z_STREAM_END;
    deflateEnd(&z);
    if (!smaller) {
        free(to);
        return false;
    }
    *out = to;
    *out_size = z.total_out;
    return true;
}
