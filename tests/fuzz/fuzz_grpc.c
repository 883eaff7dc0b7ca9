/*
 * A gRPC client of any bytes: the session takes them in pieces, calls are answered when the input says so
 * or never, and at the end everything is given back. The first byte chooses sizes and moments.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/http/grpc_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
static struct kl_grpc_call *held[KL_GRPC_STREAMS_MAX];
static unsigned held_count;

static void handle(void *ctx, struct kl_grpc_call *c)
{
    char       *bytes;
    size_t      n;
    const char *coding;

    (void)ctx;
    assert(held_count < KL_GRPC_STREAMS_MAX);
    kl_grpc_message_take(c, &bytes, &n, &coding);
    assert(coding != NULL && n <= 5000);
    free(bytes);
    held[held_count++] = c;
}

static void drain(struct kl_grpc_conn *c)
{
    const uint8_t *out;

    while (kl_grpc_session_out(c, &out) > 0) { }
}

static void answer_all(struct kl_grpc_server *s, int status)
{
    int64_t drain_ms;

    while (held_count > 0)
        kl_grpc_answer(held[--held_count], status, "100%\xff", kl_span("answer", 6), kl_span("d", 1));
    kl_grpc_answers_take(s, &drain_ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_grpc_options o = { .listen = "x", .buffered_bytes_max = 20000 };
    struct kl_grpc_server *s = kl_grpc_server_new(&o);
    struct kl_grpc_conn    c = { .server = s, .fd = -1, .chatter = KL_GRPC_CHATTER, .touched = true };
    uint8_t choice = size > 0 ? data[0] : 0;
    size_t  piece = 1 + (choice & 15) * 64;

    held_count = 0;
    atomic_store(&c.refs, 1000);                       /* on the stack: never freed */
    kl_grpc_route_add(s, &(struct kl_grpc_route){ "/a/b", 5000, handle, NULL });
    if (!kl_grpc_session_open(&c) || !kl_grpc_session_in(&c, preface, sizeof preface - 1))
        abort();
    for (size_t at = 1, n; at < size; at += n) {
        n = size - at < piece ? size - at : piece;
        if (!kl_grpc_session_in(&c, data + at, n))
            break;
        drain(&c);
        if (choice & 16)
            answer_all(s, choice & 32 ? KL_GRPC_OK : KL_GRPC_UNAVAILABLE);
    }
    if (choice & 64)
        kl_grpc_session_goaway(&c, KL_GRPC_CALM);
    drain(&c);
    assert(c.call_count <= KL_GRPC_STREAMS_MAX && c.in_hand == held_count);
    kl_grpc_session_close(&c);
    assert(c.calls == NULL && c.call_count == 0);
    answer_all(s, KL_GRPC_OK);                         /* into the void */
    assert(c.in_hand == 0 && s->in_hand == 0 && s->bodies.used_bytes == 0);
    kl_grpc_server_free(s);
    return 0;
}
