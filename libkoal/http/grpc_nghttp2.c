/* A connection's HTTP/2 session: the one file that knows nghttp2. */
#include "libkoal/http/grpc_priv.h"

#include <nghttp2/nghttp2.h>

#include <stdio.h>
#include <string.h>

enum { STREAM_WINDOW = 256 * 1024, CONNECTION_WINDOW = 1024 * 1024, ACKS_QUEUED_MAX = 100 };

static struct kl_grpc_call *call_of(nghttp2_session *s, int32_t stream)
{
    return nghttp2_session_get_stream_user_data(s, stream);
}

static int on_begin_headers(nghttp2_session *s, const nghttp2_frame *frame, void *ctx)
{
    struct kl_grpc_conn *c = ctx;

    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    nghttp2_session_set_stream_user_data(s, frame->hd.stream_id,
                                         kl_grpc_call_new(c, frame->hd.stream_id, c->server->now_ms));
    return 0;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
                     const uint8_t *value, size_t value_size, uint8_t flags, void *ctx)
{
    struct kl_grpc_call *call = call_of(s, frame->hd.stream_id);

    (void)flags, (void)ctx;
    if (call == NULL || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;                                      /* trailers: nothing we want */
    if (kl_grpc_call_header(call, kl_span(name, name_size), kl_span(value, value_size)))
        return 0;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;      /* resets the stream */
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t size,
                   void *ctx)
{
    struct kl_grpc_call *call = call_of(s, stream);

    (void)flags, (void)ctx;
    if (call != NULL && !call->answered) {
        kl_grpc_call_data(call, bytes, size);
        if (call->refused != 0)
            kl_grpc_call_ready(call);
    }
    nghttp2_session_consume(s, stream, size);
    return 0;
}

static nghttp2_nv pair(const char *name, const char *value)
{
    return (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                         strlen(value), NGHTTP2_NV_FLAG_NONE };
}

/* No gRPC: whoever it is gets HTTP's word for it. */
static void answer_http(struct kl_grpc_call *call)
{
    nghttp2_session *s = call->conn->session;
    nghttp2_nv       head = pair(":status", call->post ? "415" : "405");

    call->answered = true;
    nghttp2_submit_response(s, call->stream, &head, 1, NULL);
}

static void on_request(struct kl_grpc_call *call, const nghttp2_frame *frame)
{
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        kl_grpc_call_begun(call);
        if (!call->post || !call->grpc_type) {
            answer_http(call);
            return;
        }
    }
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        kl_grpc_call_ended(call);
    if (call->refused != 0 || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        kl_grpc_call_ready(call);
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *frame, void *ctx)
{
    struct kl_grpc_conn *c = ctx;
    struct kl_grpc_call *call;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        call = call_of(s, frame->hd.stream_id);
        if (frame->hd.length == 0)
            kl_grpc_chatter(c, 1);
        if (call != NULL && !call->answered && !call->handed)
            on_request(call, frame);
        break;
    case NGHTTP2_RST_STREAM:
        kl_grpc_chatter(c, KL_GRPC_RESET);
        break;
    default:
        kl_grpc_chatter(c, 1);
        break;
    }
    return 0;
}

/* Once the answer has gone out, nobody waits for the rest of a request. Not before: a reset overtakes. */
static int on_sent(nghttp2_session *s, const nghttp2_frame *frame, void *ctx)
{
    (void)ctx;
    if (frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
        nghttp2_session_get_stream_remote_close(s, frame->hd.stream_id) == 0)
        nghttp2_submit_rst_stream(s, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
}

/* The stream is gone. A call that is handed out comes back, and is freed then. */
static void forget(struct kl_grpc_conn *c, struct kl_grpc_call *call)
{
    *call->at = call->next;
    if (call->next != NULL)
        call->next->at = call->at;
    c->call_count--;
    c->active_ms = c->server->now_ms;
    if (call->handed && !call->answered)
        call->closed = true;
    else
        kl_grpc_call_free(call);
}

static int on_close(nghttp2_session *s, int32_t stream, uint32_t code, void *ctx)
{
    struct kl_grpc_call *call = call_of(s, stream);

    (void)code;
    if (call != NULL) {
        nghttp2_session_set_stream_user_data(s, stream, NULL);
        forget(ctx, call);
    }
    return 0;
}

bool kl_grpc_session_open(struct kl_grpc_conn *c)
{
    static const nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, KL_GRPC_STREAMS_MAX },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, KL_GRPC_METADATA_MAX },
        { NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 0 },
    };
    nghttp2_session_callbacks *calls = NULL;
    nghttp2_option            *option = NULL;
    int                        failed;

    if (nghttp2_session_callbacks_new(&calls) != 0 || nghttp2_option_new(&option) != 0) {
        nghttp2_session_callbacks_del(calls);
        return false;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(calls, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(calls, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_outbound_ack(option, ACKS_QUEUED_MAX);
    failed = nghttp2_session_server_new2(&c->session, calls, c, option);
    nghttp2_session_callbacks_del(calls);
    nghttp2_option_del(option);
    if (failed != 0)
        return false;
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, sizeof settings / sizeof *settings);
    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
    return true;
}

void kl_grpc_session_close(struct kl_grpc_conn *c)
{
    while (c->calls != NULL)
        forget(c, c->calls);
    nghttp2_session_del(c->session);
    c->session = NULL;
}

bool kl_grpc_session_in(struct kl_grpc_conn *c, const uint8_t *bytes, size_t size)
{
    return nghttp2_session_mem_recv(c->session, bytes, size) == (ssize_t)size;
}

long kl_grpc_session_out(struct kl_grpc_conn *c, const uint8_t **bytes)
{
    return (long)nghttp2_session_mem_send(c->session, bytes);
}

bool kl_grpc_session_done(const struct kl_grpc_conn *c)
{
    return !nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session);
}

/* ---- answers ---- */

/* At most three. */
static size_t trailers(const struct kl_grpc_call *call, char number[12], nghttp2_nv *to)
{
    size_t n = 0;

    snprintf(number, 12, "%d", call->status);
    to[n++] = pair("grpc-status", number);
    if (call->words != NULL && call->words[0] != '\0')
        to[n++] = pair("grpc-message", call->words);
    if (call->details != NULL)
        to[n++] = pair("grpc-status-details-bin", call->details);
    return n;
}

static ssize_t read_answer(nghttp2_session *s, int32_t stream, uint8_t *into, size_t room, uint32_t *flags,
                           nghttp2_data_source *source, void *ctx)
{
    struct kl_grpc_call *call = source->ptr;
    size_t     n = call->out.size - call->out_sent;
    nghttp2_nv tail[3];
    char       number[12];

    (void)ctx;
    if (n > room)
        n = room;
    memcpy(into, call->out.at + call->out_sent, n);
    call->out_sent += n;
    if (call->out_sent == call->out.size) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_submit_trailer(s, stream, tail, trailers(call, number, tail));
    }
    return (ssize_t)n;
}

void kl_grpc_session_answer(struct kl_grpc_call *call)
{
    nghttp2_session      *s = call->conn->session;
    nghttp2_data_provider from = { .source.ptr = call, .read_callback = read_answer };
    nghttp2_nv            head[6] = { pair(":status", "200"), pair("content-type", "application/grpc"),
                                      pair("grpc-accept-encoding", "identity,gzip") };
    char                  number[12];
    size_t                n = 3;

    call->begun_ms = call->server->now_ms;             /* as long again to take the answer */
    if (call->out.size > 0) {
        nghttp2_submit_response(s, call->stream, head, n, &from);
        return;
    }
    n += trailers(call, number, head + n);
    nghttp2_submit_response(s, call->stream, head, n, NULL);
}

void kl_grpc_session_reset(struct kl_grpc_call *call)
{
    nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->stream, NGHTTP2_CANCEL);
}

void kl_grpc_session_goaway(struct kl_grpc_conn *c, enum kl_grpc_goaway why)
{
    if (why == KL_GRPC_CALM)
        nghttp2_session_terminate_session(c->session, NGHTTP2_ENHANCE_YOUR_CALM);
    else
        nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(c->session), NGHTTP2_NO_ERROR,
                              NULL, 0);
}
