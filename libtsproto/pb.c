#include "libtsproto/pb_priv.h"

static bool put(pb_ostream_t *stream, const pb_field_t *field, void *const *arg)
{
    const struct kl_span *s = *arg;

    return s->size == 0 ||
           (pb_encode_tag_for_field(stream, field) && pb_encode_string(stream, s->at, s->size));
}

pb_callback_t tsp_pb_put(const struct kl_span *span)
{
    return (pb_callback_t){ .funcs.encode = put, .arg = (void *)span };
}

/* nanopb has bounded the sub-stream by the message, so bytes_left is at most what was received. */
static bool get(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct tsp_pb_bytes *to = *arg;
    size_t size = stream->bytes_left;
    void  *at = kl_arena_alloc(to->arena, size);

    (void)field;
    if (at == NULL)
        PB_RETURN_ERROR(stream, "no room");
    *to->span = kl_span(at, size);
    return pb_read(stream, at, size);
}

pb_callback_t tsp_pb_get(struct tsp_pb_bytes *to)
{
    return (pb_callback_t){ .funcs.decode = get, .arg = to };
}

static bool write_out(pb_ostream_t *stream, const pb_byte_t *bytes, size_t size)
{
    kl_buf_add(stream->state, bytes, size);
    return kl_buf_ok(stream->state);
}

enum kl_code tsp_pb_encode(const pb_msgdesc_t *fields, const void *message, struct kl_buf *out,
                           const char *what, struct kl_err *err)
{
    pb_ostream_t stream = { .callback = write_out, .state = out, .max_size = SIZE_MAX };

    return pb_encode(&stream, fields, message)
         ? KL_OK : kl_fail(err, KL_ELIMIT, "%s: %s", what, PB_GET_ERROR(&stream));
}

enum kl_code tsp_pb_decode(const pb_msgdesc_t *fields, struct kl_span bytes, void *message,
                           const char *what, struct kl_err *err)
{
    pb_istream_t stream = pb_istream_from_buffer(bytes.at, bytes.size);

    return pb_decode(&stream, fields, message)
         ? KL_OK : kl_fail(err, KL_EINVAL, "%s: %s", what, PB_GET_ERROR(&stream));
}
