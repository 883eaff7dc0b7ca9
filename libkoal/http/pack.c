/* Answers, packed at the fastest level: dashboards sit near. gzip is RFC 1952, zstd RFC 8878. */
#include "libkoal/http/http_priv.h"

#include <zlib.h>
#include <zstd.h>

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { GZIP_WINDOW = 15 + 16 };                        /* zlib's way to ask for a gzip header */
enum { ZSTD_LEVEL = 1, STEP_BYTES = 64 * 1024 };

struct kl_http_packer {
    enum kl_http_coding coding;
    z_stream   gzip;
    ZSTD_CCtx *zstd;
};

struct kl_http_packer *kl_http_packer_new(enum kl_http_coding coding)
{
    struct kl_http_packer *p = kl_new(sizeof *p);
    bool                   ok;

    p->coding = coding;
    if (coding == KL_HTTP_ZSTD) {
        p->zstd = ZSTD_createCCtx();
        ok = p->zstd != NULL && !ZSTD_isError(ZSTD_CCtx_setParameter(
                 p->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL));
    } else {
        ok = deflateInit2(&p->gzip, 1, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) == Z_OK;
    }
    if (!ok)
        abort();                                       /* without memory, as kl_new */
    return p;
}

void kl_http_packer_free(struct kl_http_packer *p)
{
    if (p == NULL)
        return;
    if (p->coding == KL_HTTP_ZSTD)
        ZSTD_freeCCtx(p->zstd);
    else
        deflateEnd(&p->gzip);
    free(p);
}

static void add_gzip(struct kl_http_packer *p, struct kl_span in, bool last, struct kl_buf *out)
{
    z_stream *z = &p->gzip;
    int       code;

    assert(in.size < UINT_MAX);
    z->next_in = (Bytef *)(uintptr_t)in.at;
    z->avail_in = (uInt)in.size;
    do {
        if (!kl_buf_reserve(out, STEP_BYTES))
            return;
        z->next_out = (Bytef *)out->at + out->size;
        z->avail_out = STEP_BYTES;
        code = deflate(z, last ? Z_FINISH : Z_NO_FLUSH);
        out->size += STEP_BYTES - z->avail_out;
    } while (last ? code != Z_STREAM_END : z->avail_out == 0);
}

static void add_zstd(struct kl_http_packer *p, struct kl_span in, bool last, struct kl_buf *out)
{
    ZSTD_inBuffer from = { in.at, in.size, 0 };
    size_t        left;

    do {
        ZSTD_outBuffer to = { NULL, STEP_BYTES, 0 };

        if (!kl_buf_reserve(out, STEP_BYTES))
            return;
        to.dst = out->at + out->size;
        left = ZSTD_compressStream2(p->zstd, &to, &from, last ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            abort();                                   /* it has no other failure than memory */
        out->size += to.pos;
    } while (last ? left > 0 : from.pos < from.size);
}

void kl_http_packer_add(struct kl_http_packer *p, struct kl_span in, bool last, struct kl_buf *out)
{
    if (p->coding == KL_HTTP_ZSTD)
        add_zstd(p, in, last, out);
    else
        add_gzip(p, in, last, out);
}

bool kl_http_pack(enum kl_http_coding coding, const char *bytes, size_t size, char **out,
                  size_t *out_size)
{
    struct kl_http_packer *p;
    struct kl_buf          packed;
    bool                   smaller;

    if (coding == KL_HTTP_PLAIN || size >= UINT_MAX)
        return false;
    p = kl_http_packer_new(coding);
    kl_buf_init(&packed, size + STEP_BYTES);           /* past its own size it is of no use */
    kl_http_packer_add(p, kl_span(bytes, size), true, &packed);
    kl_http_packer_free(p);
    smaller = kl_buf_ok(&packed) && packed.size < size;
    if (smaller) {
        *out = packed.at;
        *out_size = packed.size;
    } else {
        kl_buf_deinit(&packed);
    }
    return smaller;
}
