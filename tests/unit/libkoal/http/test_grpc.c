/*
 * libkoal/http/grpc: what a gRPC client sees, and what a hostile one can do. The client is nghttp2's own,
 * over a real socket; no test waits for a time that a busy machine could miss.
 */
#include "libkoal/http/grpc.h"

#include <arpa/inet.h>
#include <check.h>
#include <nghttp2/nghttp2.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libkoal/base/buf.h"
#include "tests/suite.h"

enum { STREAMS = 300, WAIT_MS = 20000 };

/* ---- the server, and what its handlers do ---- */

static struct kl_grpc_server *server;
static struct kl_metrics     *metrics;
static struct kl_err          err;
static pthread_t              thread;
static struct kl_grpc_call   *held[STREAMS];
static _Atomic unsigned       held_count;
static char                   seen[200];
static pthread_mutex_t        seen_lock = PTHREAD_MUTEX_INITIALIZER;

static void answer_echo(struct kl_grpc_call *c)
{
    const char *coding;
    char       *bytes;
    size_t      size;

    kl_grpc_message_take(c, &bytes, &size, &coding);
    pthread_mutex_lock(&seen_lock);
    snprintf(seen, sizeof seen, "%s %.*s", coding, (int)(size < 100 ? size : 100), bytes);
    pthread_mutex_unlock(&seen_lock);
    kl_grpc_answer(c, KL_GRPC_OK, "", kl_span(bytes, size), kl_span("", 0));
    free(bytes);
}

static void echo(void *ctx, struct kl_grpc_call *c) { (void)ctx; answer_echo(c); }
static void *echo_there(void *ctx) { answer_echo(ctx); return NULL; }
static void elsewhere(void *ctx, struct kl_grpc_call *c)
{
    (void)ctx;
    ck_assert_int_eq(pthread_create(&thread, NULL, echo_there, c), 0);
    pthread_detach(thread);
}
static void hold(void *ctx, struct kl_grpc_call *c)
{
    (void)ctx;
    held[held_count] = c;
    held_count++;                                      /* last: others look at it */
}
static void fail_it(void *ctx, struct kl_grpc_call *c)
{
    (void)ctx;
    kl_grpc_answer(c, KL_GRPC_UNAVAILABLE, "50% f\xc3\xbcll\n", kl_span("", 0), kl_span("\x08\x0e\xff", 3));
}

static void start(const struct kl_grpc_options *more)
{
    struct kl_grpc_options o = *more;

    o.listen = "127.0.0.1:0";
    o.metrics = metrics = kl_metrics_new();
    server = kl_grpc_server_new(&o);
    kl_grpc_route_add(server, &(struct kl_grpc_route){ "/t.S/Echo", 1 << 20, echo, NULL });
    kl_grpc_route_add(server, &(struct kl_grpc_route){ "/t.S/Elsewhere", 1 << 20, elsewhere, NULL });
    kl_grpc_route_add(server, &(struct kl_grpc_route){ "/t.S/Hold", 1 << 20, hold, NULL });
    kl_grpc_route_add(server, &(struct kl_grpc_route){ "/t.S/Fail", 1 << 20, fail_it, NULL });
    ck_assert_msg(kl_grpc_server_start(server, &err) == KL_OK, "%s", err.text);
    held_count = 0;
}

static void setup(void) { start(&(struct kl_grpc_options){ 0 }); }
static void teardown(void)
{
    kl_grpc_server_free(server);
    kl_metrics_free(metrics);
}

/* ---- the client ---- */

struct stream {
    int32_t id;
    bool    closed, keep_open;                         /* keep_open: its request does not end */
    uint32_t code;
    char    http[8], status[8], words[300], details[100];
    struct kl_buf request, body;
    size_t  sent;
};
struct client {
    int              fd;
    nghttp2_session *session;
    bool             goaway, ended;
    uint32_t         goaway_code;
    size_t           count;
    struct stream    streams[STREAMS];
};

static struct stream *stream_of(struct client *c, int32_t id)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->streams[i].id == id)
            return &c->streams[i];
    return NULL;
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name, size_t n, const uint8_t *value,
                     size_t v, uint8_t flags, void *ctx)
{
    struct stream *x = stream_of(ctx, f->hd.stream_id);
    struct kl_span key = kl_span(name, n);
    char          *to;
    size_t         room;

    (void)s, (void)flags;
    if (x == NULL)
        return 0;
    to = kl_span_eq(key, kl_span_str(":status")) ? x->http : kl_span_eq(key, kl_span_str("grpc-status")) ? x->status
       : kl_span_eq(key, kl_span_str("grpc-message")) ? x->words
       : kl_span_eq(key, kl_span_str("grpc-status-details-bin")) ? x->details : NULL;
    room = to == x->http || to == x->status ? 8 : to == x->words ? 300 : 100;
    if (to != NULL)
        snprintf(to, room, "%.*s", (int)v, (const char *)value);
    return 0;
}

static int on_chunk(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *at, size_t n, void *ctx)
{
    (void)s, (void)flags;
    kl_buf_add(&stream_of(ctx, id)->body, at, n);
    return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *f, void *ctx)
{
    struct client *c = ctx;

    (void)s;
    if (f->hd.type == NGHTTP2_GOAWAY) {
        c->goaway = true;
        c->goaway_code = f->goaway.error_code;
    }
    return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t code, void *ctx)
{
    struct stream *x = stream_of(ctx, id);

    (void)s;
    if (x != NULL) {
        x->closed = true;
        x->code = code;
    }
    return 0;
}

static ssize_t more(nghttp2_session *s, int32_t id, uint8_t *to, size_t room, uint32_t *flags, nghttp2_data_source *src,
                    void *ctx)
{
    struct stream *x = stream_of(ctx, id);
    size_t         n = x->request.size - x->sent;

    (void)s, (void)src;
    if (n == 0 && x->keep_open)
        return NGHTTP2_ERR_DEFERRED;
    n = n < room ? n : room;
    if (n > 0)
        memcpy(to, x->request.at + x->sent, n);
    x->sent += n;
    if (x->sent == x->request.size && !x->keep_open)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static struct client *dial(const nghttp2_settings_entry *settings, size_t count)
{
    struct client *c = calloc(1, sizeof *c);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)kl_grpc_server_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    nghttp2_session_callbacks *k;

    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(c->fd, (struct sockaddr *)&a, sizeof a), 0);
    nghttp2_session_callbacks_new(&k);
    nghttp2_session_callbacks_set_on_header_callback(k, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(k, on_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(k, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(k, on_close);
    nghttp2_session_client_new(&c->session, k, c);
    nghttp2_session_callbacks_del(k);
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, count);
    return c;
}

static void hang_up(struct client *c)
{
    for (size_t i = 0; i < c->count; i++) {
        kl_buf_deinit(&c->streams[i].request);
        kl_buf_deinit(&c->streams[i].body);
    }
    nghttp2_session_del(c->session);
    close(c->fd);
    free(c);
}

static nghttp2_nv pair(const char *name, const char *value)
{
    return (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value), 0 };
}

static struct stream *call_as(struct client *c, const char *path, const char *method, const char *type,
                              const char *extra, const char *value, const void *bytes, size_t size, bool keep_open)
{
    struct stream *x = &c->streams[c->count++];
    nghttp2_nv     nv[8] = { pair(":method", method), pair(":scheme", "http"), pair(":path", path),
                             pair(":authority", "x"), pair("content-type", type), pair("te", "trailers") };
    nghttp2_data_provider from = { .read_callback = more };

    ck_assert_uint_lt(c->count, STREAMS);
    nv[6] = pair(extra != NULL ? extra : "x", value != NULL ? value : "y");
    kl_buf_add(&x->request, bytes, size);
    x->keep_open = keep_open;
    x->id = nghttp2_submit_request(c->session, NULL, nv, 7, &from, NULL);
    ck_assert_int_gt(x->id, 0);
    return x;
}

/* A message with its prefix. */
static struct stream *call(struct client *c, const char *path, const char *message)
{
    char   bytes[1000];
    size_t n = strlen(message);

    memcpy(bytes, (char[]){ 0, 0, 0, 0, (char)n }, 5);
    memcpy(bytes + 5, message, n);
    return call_as(c, path, "POST", "application/grpc+proto", NULL, NULL, bytes, n + 5, false);
}

static void push_out(struct client *c)
{
    const uint8_t *out;
    ssize_t        n;

    while ((n = nghttp2_session_mem_send(c->session, &out)) > 0)
        for (ssize_t at = 0, m; at < n; at += m)
            if ((m = send(c->fd, out + at, (size_t)(n - at), MSG_NOSIGNAL)) <= 0) {
                c->ended = true;
                return;
            }
}

/* Reads and writes until the condition, or the end of the connection. */
static void pump(struct client *c, bool (*until)(struct client *c))
{
    uint8_t bytes[16384];
    ssize_t n;

    for (int waited = 0; !until(c) && !c->ended && waited < WAIT_MS; ) {
        push_out(c);
        if (poll(&(struct pollfd){ .fd = c->fd, .events = POLLIN }, 1, 20) == 0) {
            waited += 20;
            continue;
        }
        n = recv(c->fd, bytes, sizeof bytes, 0);
        if (n <= 0 || nghttp2_session_mem_recv(c->session, bytes, (size_t)n) < 0)
            c->ended = true;
    }
    ck_assert_msg(until(c) || c->ended, "nothing happens");
}

static bool all_closed(struct client *c)
{
    for (size_t i = 0; i < c->count; i++)
        if (!c->streams[i].closed)
            return false;
    return true;
}
static bool said_goodbye(struct client *c) { return c->goaway; }
static bool never(struct client *c) { (void)c; return false; }
static bool one_is_held(struct client *c) { (void)c; return held_count > 0; }

/* ---- what a client sees ---- */

START_TEST(a_call_is_answered_with_its_message_and_status)
{
    struct client *c = dial(NULL, 0);
    struct stream *x = call(c, _i == 0 ? "/t.S/Echo" : "/t.S/Elsewhere", "hello");

    pump(c, all_closed);
    ck_assert_str_eq(x->http, "200");
    ck_assert_str_eq(x->status, "0");
    ck_assert(x->body.size == 10 && memcmp(x->body.at, "\0\0\0\0\5hello", 10) == 0);
    ck_assert_str_eq(seen, "identity hello");
    ck_assert_uint_eq(x->code, NGHTTP2_NO_ERROR);
    hang_up(c);
}
END_TEST

START_TEST(many_calls_share_a_connection)
{
    struct client *c = dial(NULL, 0);

    call(c, "/t.S/Echo", "x");
    pump(c, all_closed);                               /* by now it knows how many at once */
    for (int i = 0; i < 200; i++)
        call(c, i % 2 == 0 ? "/t.S/Echo" : "/t.S/Elsewhere", "x");
    pump(c, all_closed);
    for (int i = 0; i < 200; i++)
        ck_assert_str_eq(c->streams[i].status, "0");
    hang_up(c);
}
END_TEST

START_TEST(a_failure_has_words_and_details)
{
    struct client *c = dial(NULL, 0);
    struct stream *x = call(c, "/t.S/Fail", "");

    pump(c, all_closed);
    ck_assert_str_eq(x->status, "14");
    ck_assert_str_eq(x->words, "50%25 f%C3%BCll%0A");
    ck_assert_str_eq(x->details, "CA7/");
    hang_up(c);
}
END_TEST

START_TEST(a_large_message_passes_the_windows)
{
    enum { SIZE = 1 << 20 };
    char          *bytes = calloc(1, SIZE + 5);
    struct client *c = dial(NULL, 0);
    struct stream *x;

    memcpy(bytes, (uint8_t[]){ 0, SIZE >> 24, SIZE >> 16 & 255, SIZE >> 8 & 255, SIZE & 255 }, 5);
    bytes[SIZE + 4] = 'z';
    /* The client's own windows for the answer: it must be taken piece by piece. */
    x = call_as(c, "/t.S/Echo", "POST", "application/grpc", NULL, NULL, bytes, SIZE + 5, false);
    pump(c, all_closed);
    ck_assert_str_eq(x->status, "0");
    ck_assert(x->body.size == SIZE + 5 && x->body.at[SIZE + 4] == 'z');
    free(bytes);
    hang_up(c);
}
END_TEST

#define MESSAGE(prefix, rest) prefix rest, sizeof prefix rest - 1
static const struct {
    const char *path, *method, *type, *extra, *value; const char *bytes; size_t size; const char *http, *status;
} cases[] = {
    { "/t.S/None", "POST", "application/grpc", 0, 0, MESSAGE("\0\0\0\0\1", "x"), "200", "12" },
    { "/t.S/Echo", "POST", "text/plain", 0, 0, MESSAGE("\0\0\0\0\1", "x"), "415", "" },
    { "/t.S/Echo", "POST", "application/grpcx", 0, 0, MESSAGE("\0\0\0\0\1", "x"), "415", "" },
    { "/t.S/Echo", "GET", "application/grpc", 0, 0, MESSAGE("\0\0\0\0\1", "x"), "405", "" },
    { "/t.S/Echo", "POST", "application/grpc", "grpc-encoding", "br", MESSAGE("\1\0\0\0\1", "x"), "200", "12" },
    { "/t.S/Echo", "POST", "application/grpc", "grpc-encoding", "gzip", MESSAGE("\1\0\0\0\1", "x"), "200", "0" },
    { "/t.S/Echo", "POST", "application/grpc", "grpc-encoding", "gzip", MESSAGE("\0\0\0\0\1", "x"), "200", "0" },
    { "/t.S/Echo", "POST", "application/grpc", 0, 0, MESSAGE("\1\0\0\0\1", "x"), "200", "13" },
    { "/t.S/Echo", "POST", "application/grpc", 0, 0, MESSAGE("\2\0\0\0\1", "x"), "200", "13" },
    { "/t.S/Echo", "POST", "application/grpc", 0, 0, MESSAGE("\0\0\0\0\2", "x"), "200", "13" },
    { "/t.S/Echo", "POST", "application/grpc", 0, 0, MESSAGE("\0\0", ""), "200", "13" },
    { "/t.S/Echo", "POST", "application/grpc", 0, 0, MESSAGE("", ""), "200", "13" },
    { "/t.S/Echo", "POST", "application/grpc", 0, 0, MESSAGE("\0\0\0\0\1", "x\0\0\0\0\1x"), "200", "12" },
    { "/t.S/Echo", "POST", "application/grpc", 0, 0, MESSAGE("\0\0\x10\0\1", ""), "200", "8" },
    { "/t.S/Echo", "POST", "application/grpc", 0, 0, MESSAGE("\0\xff\xff\xff\xff", ""), "200", "8" },
    { "/t.S/Echo", "POST", "application/grpc;x", 0, 0, MESSAGE("\0\0\0\0\0", ""), "200", "0" },
};

START_TEST(what_is_no_call_gets_the_status_for_it)
{
    struct client *c = dial(NULL, 0);
    struct stream *x = call_as(c, cases[_i].path, cases[_i].method, cases[_i].type, cases[_i].extra, cases[_i].value,
                               cases[_i].bytes, cases[_i].size, false);

    pump(c, all_closed);
    ck_assert_str_eq(x->http, cases[_i].http);
    ck_assert_str_eq(x->status, cases[_i].status);
    x = call(c, "/t.S/Echo", "still");                 /* the connection goes on */
    pump(c, all_closed);
    ck_assert_str_eq(x->status, "0");
    hang_up(c);
}
END_TEST

START_TEST(a_message_announced_as_too_large_is_refused_before_it_comes)
{
    struct client *c = dial(NULL, 0);
    struct stream *x = call_as(c, "/t.S/Echo", "POST", "application/grpc", NULL, NULL, "\0\x40\0\0\0", 5, true);

    pump(c, all_closed);
    ck_assert_str_eq(x->status, "8");
    hang_up(c);
}
END_TEST

/* ---- what a hostile one cannot do ---- */

START_TEST(metadata_past_the_bound_resets_the_stream_alone)
{
    struct client *c = dial(NULL, 0);
    char          *long_value = malloc(20001);
    struct stream *x;

    memset(long_value, 'v', 20000);
    long_value[20000] = '\0';
    x = call_as(c, "/t.S/Echo", "POST", "application/grpc", "big", long_value, "\0\0\0\0\0", 5, false);
    pump(c, all_closed);
    ck_assert_str_eq(x->http, "");
    x = call(c, "/t.S/Echo", "ok");
    pump(c, all_closed);
    ck_assert_str_eq(x->status, "0");
    free(long_value);
    hang_up(c);
}
END_TEST

START_TEST(rapid_resets_end_the_connection)            /* few of them do not */
{
    struct client *c = dial(NULL, 0);
    struct stream *last;

    call(c, "/t.S/Echo", "x");
    pump(c, all_closed);
    for (int i = 0; i < (_i == 0 ? STREAMS - 3 : 60) && !c->goaway && !c->ended; i++) {
        struct stream *x = call_as(c, "/t.S/Hold", "POST", "application/grpc", NULL, NULL, "\0\0\0\0\1", 5, true);
        push_out(c);
        nghttp2_submit_rst_stream(c->session, 0, x->id, NGHTTP2_CANCEL);
        push_out(c);
    }
    if (_i == 0) {
        pump(c, said_goodbye);                         /* if it arrives: the end comes close behind */
        ck_assert(c->ended || c->goaway_code == NGHTTP2_ENHANCE_YOUR_CALM);
    } else {
        last = call(c, "/t.S/Echo", "x");
        pump(c, all_closed);
        ck_assert_str_eq(last->status, "0");
    }
    hang_up(c);
}
END_TEST

START_TEST(a_flood_of_pings_ends_the_connection)
{
    struct client *c = dial(NULL, 0);

    for (int i = 0; i < 2 * KL_GRPC_CHATTER; i++)
        nghttp2_submit_ping(c->session, 0, NULL);
    pump(c, said_goodbye);
    ck_assert(c->goaway || c->ended);
    hang_up(c);
}
END_TEST

START_TEST(calls_that_are_reset_while_they_are_worked_on_still_count)
{
    struct client *c = dial(NULL, 0);
    struct stream *x;

    for (int i = 0; i < KL_GRPC_STREAMS_MAX; i++)
        call(c, "/t.S/Hold", "x");
    for (int waited = 0; held_count < KL_GRPC_STREAMS_MAX && waited < 1000; waited++) {
        held_count == 0 ? pump(c, one_is_held) : (void)0;
        usleep(1000);
    }
    ck_assert_uint_eq(held_count, KL_GRPC_STREAMS_MAX);
    for (int i = 0; i < KL_GRPC_STREAMS_MAX; i++) {
        nghttp2_submit_rst_stream(c->session, 0, c->streams[i].id, NGHTTP2_CANCEL);
    }
    pump(c, all_closed);
    x = call(c, "/t.S/Echo", "x");
    pump(c, all_closed);
    ck_assert_str_eq(x->status, "8");
    for (unsigned i = 0; i < held_count; i++)          /* into the void */
        kl_grpc_answer(held[i], KL_GRPC_OK, "", kl_span("", 0), kl_span("", 0));
    do {                                               /* and then there is room again */
        x = call(c, "/t.S/Echo", "x");
        pump(c, all_closed);
    } while (strcmp(x->status, "8") == 0 && c->count < STREAMS - 2);
    ck_assert_str_eq(x->status, "0");
    hang_up(c);
}
END_TEST

START_TEST(messages_past_the_memory_of_all_are_refused)
{
    struct client *c;
    struct stream *x;
    char           bytes[40005] = { 0, 0, 0, (char)(60000 >> 8), (char)(60000 & 255) };

    teardown();
    start(&(struct kl_grpc_options){ .buffered_bytes_max = 100000 });
    c = dial(NULL, 0);
    x = call_as(c, "/t.S/Echo", "POST", "application/grpc", NULL, NULL, bytes, sizeof bytes, true);
    for (int i = 0; i < 2; i++)
        call_as(c, "/t.S/Echo", "POST", "application/grpc", NULL, NULL, bytes, sizeof bytes, true);
    x->closed = true;                                  /* waits, and holds what it sent */
    c->streams[1].closed = true;
    pump(c, all_closed);
    ck_assert_str_eq(c->streams[2].status, "8");
    hang_up(c);
}
END_TEST

START_TEST(a_call_that_does_not_end_is_reset)
{
    struct client *c;
    struct stream *x;

    teardown();
    start(&(struct kl_grpc_options){ .call_timeout_s = 1 });
    c = dial(NULL, 0);
    x = call_as(c, "/t.S/Echo", "POST", "application/grpc", NULL, NULL, "\0\0\0\0\5a", 6, true);
    pump(c, all_closed);
    ck_assert_uint_eq(x->code, NGHTTP2_CANCEL);
    hang_up(c);
}
END_TEST

START_TEST(an_answer_that_is_not_taken_is_dropped)
{
    static const nghttp2_settings_entry closed[] = { { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0 } };
    struct client *c;
    struct stream *x;

    teardown();
    start(&(struct kl_grpc_options){ .call_timeout_s = 1 });
    c = dial(closed, 1);
    x = call(c, "/t.S/Echo", "never");
    pump(c, all_closed);
    ck_assert_uint_eq(x->code, NGHTTP2_CANCEL);
    ck_assert_uint_eq(x->body.size, 0);
    hang_up(c);
}
END_TEST

START_TEST(idle_connections_are_closed)
{
    struct client *c;

    teardown();
    start(&(struct kl_grpc_options){ .idle_timeout_s = 1 });
    c = dial(NULL, 0);
    call(c, "/t.S/Echo", "x");
    pump(c, all_closed);
    pump(c, never);
    ck_assert(c->ended && c->goaway && c->goaway_code == NGHTTP2_NO_ERROR);
    hang_up(c);
}
END_TEST

START_TEST(connections_past_the_bound_are_closed_at_once)
{
    struct client *a, *b;

    teardown();
    start(&(struct kl_grpc_options){ .connections_max = 1 });
    a = dial(NULL, 0);
    call(a, "/t.S/Echo", "x");
    pump(a, all_closed);
    b = dial(NULL, 0);
    call(b, "/t.S/Echo", "x");
    pump(b, all_closed);
    ck_assert(b->ended);
    call(a, "/t.S/Echo", "x");
    pump(a, all_closed);
    ck_assert_str_eq(a->streams[1].status, "0");
    hang_up(a);
    hang_up(b);
}
END_TEST

/* What waits to be accepted would wake the thread for ever. */
START_TEST(a_server_that_has_no_descriptor_left_waits_for_one_without_a_turn)
{
    struct rlimit  was, tight;
    struct rusage  before, after;
    struct client *c;
    int            next = dup(0);

    close(next);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
    tight = was;
    tight.rlim_cur = (rlim_t)next + 1;                 /* the client's own is the last */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &tight), 0);
    c = dial(NULL, 0);
    call(c, "/t.S/Echo", "x");
    getrusage(RUSAGE_SELF, &before);
    usleep(500000);
    getrusage(RUSAGE_SELF, &after);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
    ck_assert_int_lt((after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 + after.ru_utime.tv_usec -
                     before.ru_utime.tv_usec + (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
                     after.ru_stime.tv_usec - before.ru_stime.tv_usec, 100000);
    pump(c, all_closed);
    ck_assert_str_eq(c->streams[0].status, "0");
    hang_up(c);
}
END_TEST

START_TEST(other_bytes_than_http2_end_the_connection)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    struct client *c = dial(NULL, 0);
    char           byte[4096];
    ssize_t        n;

    ck_assert_int_eq(send(c->fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    while ((n = recv(c->fd, byte, sizeof byte, 0)) > 0) { }
    ck_assert_int_le(n, 0);
    hang_up(c);
}
END_TEST

/* ---- stopping ---- */

static void *answer_soon(void *ctx)
{
    (void)ctx;
    usleep(50000);
    kl_grpc_answer(held[0], KL_GRPC_OK, "", kl_span("late", 4), kl_span("", 0));
    return NULL;
}

static void *stop_it(void *ctx)
{
    kl_grpc_server_stop(server, *(int64_t *)ctx);
    return NULL;
}

START_TEST(a_stop_waits_for_calls_under_way_as_long_as_it_may)
{
    int64_t        drain_ms = _i == 0 ? WAIT_MS : 1;
    struct client *c = dial(NULL, 0);
    struct stream *x = call(c, "/t.S/Hold", "x");
    pthread_t      stopper, answerer;

    pump(c, one_is_held);
    pthread_create(&stopper, NULL, stop_it, &drain_ms);
    pthread_create(&answerer, NULL, answer_soon, NULL);
    pump(c, all_closed);
    pthread_join(stopper, NULL);
    pthread_join(answerer, NULL);                      /* after the end, where it did not wait */
    if (_i == 0) {
        ck_assert_str_eq(x->status, "0");
        ck_assert_uint_eq(x->body.size, 9);
    }
    hang_up(c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/http/grpc");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, a_call_is_answered_with_its_message_and_status, 0, 2);
    tcase_add_test(t, many_calls_share_a_connection);
    tcase_add_test(t, a_failure_has_words_and_details);
    tcase_add_test(t, a_large_message_passes_the_windows);
    tcase_add_loop_test(t, what_is_no_call_gets_the_status_for_it, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_test(t, a_message_announced_as_too_large_is_refused_before_it_comes);
    tcase_add_test(t, metadata_past_the_bound_resets_the_stream_alone);
    tcase_add_loop_test(t, rapid_resets_end_the_connection, 0, 2);
    tcase_add_test(t, a_flood_of_pings_ends_the_connection);
    tcase_add_test(t, calls_that_are_reset_while_they_are_worked_on_still_count);
    tcase_add_test(t, messages_past_the_memory_of_all_are_refused);
    tcase_add_test(t, a_call_that_does_not_end_is_reset);
    tcase_add_test(t, an_answer_that_is_not_taken_is_dropped);
    tcase_add_test(t, idle_connections_are_closed);
    tcase_add_test(t, connections_past_the_bound_are_closed_at_once);
    tcase_add_test(t, a_server_that_has_no_descriptor_left_waits_for_one_without_a_turn);
    tcase_add_test(t, other_bytes_than_http2_end_the_connection);
    tcase_add_loop_test(t, a_stop_waits_for_calls_under_way_as_long_as_it_may, 0, 2);
    suite_add_tcase(s, t);
    return run_suite(s);
}
