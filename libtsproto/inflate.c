#include "libtsproto/inflate.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

enum { FIRST_ROOM = 64 * 1024, WINDOW_LOG_MAX = 23 };  /* RFC 8878 3.1.1.1.2: 8 MiB at least */

static const struct { const char *name; enum tsp_coding coding; } names[] = {
    { "identity", TSP_IDENTITY }, { "gzip", TSP_GZIP }, { "x-gzip", TSP_GZIP },
    { "deflate", TSP_DEFLATE }, { "zstd", TSP_ZSTD }, { "snappy", TSP_SNAPPY },
};

enum kl_code tsp_coding_of(const char *header, enum tsp_coding *coding, struct kl_err *err)
{
    const char *at = header == NULL ? "" : header;
    size_t      size;

    at += strspn(at, " \t");
    size = strlen(at);
    while (size > 0 && (at[size - 1] == ' ' || at[size - 1] == '\t'))
        size--;
    if (size == 0) {
        *coding = TSP_IDENTITY;
        return KL_OK;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i].name) == size && strncasecmp(at, names[i].name, size) == 0) {
            *coding = names[i].coding;
            return KL_OK;
        }
    return kl_fail(err, KL_EINVAL, "content encoding \"%.*s\": gzip, deflate, zstd and snappy are known",
                   (int)(size < 60 ? size : 60), at);
}

static enum kl_code too_large(struct kl_err *err, size_t cap)
{
    return kl_fail(err, KL_ELIMIT, "unpacks to more than %zu bytes", cap);
}

static enum kl_code unfit(struct kl_err *err, const char *coding)
{
    return kl_fail(err, KL_EINVAL, "is not %s, or cut short", coding);
}

static enum kl_code no_memory(struct kl_err *err, size_t size)
{
    return kl_fail(err, KL_ELIMIT, "no memory for %zu bytes", size);
}

/* malloc, with a byte even for nothing, so that NULL is always "no memory". */
static char *room(size_t size) { return malloc(size > 0 ? size : 1); }

static enum kl_code identity(struct kl_span in, size_t cap, char **out, size_t *out_size,
                             struct kl_err *err)
{
    char *at;

    if (in.size > cap)
        return too_large(err, cap);
    if ((at = room(in.size)) == NULL)
        return no_memory(err, in.size);
    if (in.size > 0)
        memcpy(at, in.at, in.size);
    *out = at;
    *out_size = in.size;
    return KL_OK;
}

static enum kl_code unsnappy(struct kl_span in, size_t cap, char **out, size_t *out_size,
                             struct kl_err *err)
{
    size_t size;
    char  *at;

    if (snappy_uncompressed_length(in.at, in.size, &size) != SNAPPY_OK)
        return unfit(err, "snappy");
    if (size > cap)
        return too_large(err, cap);
    /* A copy of at most 64 bytes takes two: more than 64/2 times its size, snappy cannot hold. */
    if (size / 32 > in.size)
        return unfit(err, "snappy");
    if ((at = room(size)) == NULL)
        return no_memory(err, size);
    if (snappy_uncompress(in.at, in.size, at, &size) != SNAPPY_OK) {
        free(at);
        return unfit(err, "snappy");
    }
    *out = at;
    *out_size = size;
    return KL_OK;
}

/* More room for a stream whose size is not declared: doubled, up to one byte past the cap, so that
 * it shows when the cap is passed. */
static enum kl_code grow(char **at, size_t *size, size_t cap, struct kl_err *err)
{
    size_t most = cap < SIZE_MAX ? cap + 1 : cap, more = *size == 0 ? FIRST_ROOM : *size * 2;
    char  *grown;

    if (*size >= most)
        return too_large(err, cap);
    if (more > most || more < *size)
        more = most;
    grown = realloc(*at, more);
    if (grown == NULL)
        return no_memory(err, more);
    *at = grown;
    *size = more;
    return KL_OK;
}

/* gzip and zlib. gzip may be several members in a row (RFC 1952 2.2). */
static enum kl_code unzip(bool gzip, struct kl_span in, size_t cap, char **out, size_t *out_size,
                          struct kl_err *err)
{
    const char *name = gzip ? "gzip" : "deflate";
    z_stream    z = { .next_in = (Bytef *)in.at };
    size_t      left = in.size, size = 0, used = 0;
    char       *at = NULL;
    int         rc = Z_OK;

    if (inflateInit2(&z, gzip ? 15 + 16 : 15) != Z_OK)
        return no_memory(err, sizeof z);
    do {
        if (used == size && grow(&at, &size, cap, err) != KL_OK)
            goto fail;
        if (z.avail_in == 0) {
            z.avail_in = left < UINT32_MAX ? (uInt)left : UINT32_MAX;
            left -= z.avail_in;
        }
        z.next_out = (Bytef *)at + used;
        z.avail_out = size - used < UINT32_MAX ? (uInt)(size - used) : UINT32_MAX;
        rc = inflate(&z, Z_NO_FLUSH);
        used = (size_t)((char *)z.next_out - at);
        if (rc == Z_STREAM_END && gzip && z.avail_in + left > 0 && inflateReset(&z) == Z_OK)
            rc = Z_OK;
    } while (rc == Z_OK || (rc == Z_BUF_ERROR && z.avail_out == 0));
    if (rc != Z_STREAM_END || z.avail_in + left > 0) {
        unfit(err, name);
        goto fail;
    }
    if (used > cap) {
        too_large(err, cap);
        goto fail;
    }
    inflateEnd(&z);
    *out = at;
    *out_size = used;
    return KL_OK;

fail:
    inflateEnd(&z);
    free(at);
    return err->code;
}

/* Frames in a row, each with or without its content size. */
static enum kl_code unzstd(struct kl_span in, size_t cap, char **out, size_t *out_size,
                           struct kl_err *err)
{
    unsigned long long declared = ZSTD_getFrameContentSize(in.at, in.size);
    ZSTD_inBuffer  src = { .src = in.at, .size = in.size };
    ZSTD_outBuffer dst = { 0 };
    ZSTD_DCtx     *z;
    size_t         size = 0, rc = 1;
    char          *at = NULL;

    if (declared == ZSTD_CONTENTSIZE_ERROR)
        return unfit(err, "zstd");
    if (declared != ZSTD_CONTENTSIZE_UNKNOWN && declared > cap)
        return too_large(err, cap);
    z = ZSTD_createDCtx();
    if (z == NULL)
        return no_memory(err, FIRST_ROOM);
    /* The window is memory, too: a frame may ask for 128 MiB of it with six bytes. */
    ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    do {
        if (dst.pos == size) {
            if (grow(&at, &size, cap, err) != KL_OK)
                goto fail;
            dst.dst = at;
            dst.size = size;
        }
        rc = ZSTD_decompressStream(z, &dst, &src);
    } while (!ZSTD_isError(rc) && (src.pos < src.size || (rc > 0 && dst.pos == dst.size)));
    if (rc != 0) {
        unfit(err, "zstd");
        goto fail;
    }
    if (dst.pos > cap) {
        too_large(err, cap);
        goto fail;
    }
    ZSTD_freeDCtx(z);
    *out = at;
    *out_size = dst.pos;
    return KL_OK;

fail:
    ZSTD_freeDCtx(z);
    free(at);
    return err->code;
}

enum kl_code tsp_inflate(enum tsp_coding coding, struct kl_span in, size_t cap_bytes, char **out,
                         size_t *out_size, struct kl_err *err)
{
    switch (coding) {
    case TSP_IDENTITY: return identity(in, cap_bytes, out, out_size, err);
    case TSP_GZIP:     return unzip(true, in, cap_bytes, out, out_size, err);
    case TSP_DEFLATE:  return unzip(false, in, cap_bytes, out, out_size, err);
    case TSP_ZSTD:     return unzstd(in, cap_bytes, out, out_size, err);
    case TSP_SNAPPY:   return unsnappy(in, cap_bytes, out, out_size, err);
    }
    return kl_fail(err, KL_EINVAL, "coding %d is none", coding);
}
