/* An answer that is made while it is sent: pieces from the handler's side, packed, cut to measure. */
#include "libkoal/http/http_priv.h"

#include <stdlib.h>
#include <string.h>

struct kl_http_flow {
    struct kl_http_stream  is;
    struct kl_http_packer *packer;                     /* NULL: plain */
    struct kl_buf          plain, packed;
    size_t                 sent;                       /* of whichever goes out */
    bool                   last, broken;
};

struct kl_http_flow *kl_http_flow_new(const struct kl_http_stream *stream, enum kl_http_coding coding)
{
    struct kl_http_flow *f = kl_new(sizeof *f);

    f->is = *stream;
    if (coding != KL_HTTP_PLAIN)
        f->packer = kl_http_packer_new(coding);
    kl_buf_init(&f->plain, KL_HTTP_PIECE_MAX);
    kl_buf_init(&f->packed, KL_HTTP_PIECE_MAX);
    return f;
}

void kl_http_flow_free(struct kl_http_flow *f)
{
    f->is.end(f->is.ctx);
    kl_http_packer_free(f->packer);
    kl_buf_deinit(&f->plain);
    kl_buf_deinit(&f->packed);
    free(f);
}

/* The next piece; false: there is no more, or it broke. */
static bool refill(struct kl_http_flow *f)
{
    enum kl_http_more more;

    if (f->last || f->broken)
        return false;
    kl_buf_reset(&f->plain);
    kl_buf_reset(&f->packed);
    f->sent = 0;
    more = f->is.more(f->is.ctx, &f->plain);
    f->last = more == KL_HTTP_LAST;
    if (f->packer != NULL && kl_buf_ok(&f->plain))
        kl_http_packer_add(f->packer, kl_buf_span(&f->plain), f->last, &f->packed);
    f->broken = more == KL_HTTP_BREAK || !kl_buf_ok(&f->plain) || !kl_buf_ok(&f->packed);
    return !f->broken;
}

enum kl_http_flowed kl_http_flow_read(struct kl_http_flow *f, char *to, size_t most, size_t *size)
{
    const struct kl_buf *b = f->packer != NULL ? &f->packed : &f->plain;

    while (f->sent == b->size)
        if (!refill(f))
            return f->broken ? KL_HTTP_BROKEN : KL_HTTP_ENDED;
    *size = b->size - f->sent < most ? b->size - f->sent : most;
    memcpy(to, b->at + f->sent, *size);
    f->sent += *size;
    return KL_HTTP_FLOWED;
}
