/*
 * libkoal/http: answers that are made while they are sent, and how they are packed.
 */
#include "libkoal/http/http_priv.h"
#include "tests/suite.h"

#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum { LINES_PIECE = 1000, LINE_BYTES = 8 };

static struct kl_http_server *server;
static struct kl_err          err;

struct lines { unsigned piece, pieces, breaks_at; };
static atomic_uint pieces_made, ended;

static enum kl_http_more more(void *ctx, struct kl_buf *out)
{
    struct lines *l = ctx;

    if (l->piece == l->breaks_at)
        return KL_HTTP_BREAK;
    for (unsigned i = 0; i < LINES_PIECE; i++)
        kl_buf_addf(out, "%07u\n", l->piece * LINES_PIECE + i);
    atomic_fetch_add(&pieces_made, 1);
    return ++l->piece == l->pieces ? KL_HTTP_LAST : KL_HTTP_MORE;
}

static void end(void *ctx)
{
    free(ctx);
    atomic_fetch_add(&ended, 1);
}

static void lines(void *ctx, struct kl_http_request *r)
{
    struct lines         *l = kl_new(sizeof *l);
    const char           *n = kl_http_param(r, "pieces", 0), *b = kl_http_param(r, "breaks", 0);
    struct kl_http_stream s = { .more = more, .end = end, .ctx = l };

    (void)ctx;
    l->pieces = n != NULL ? (unsigned)atoi(n) : 1;
    l->breaks_at = b != NULL ? (unsigned)atoi(b) : UINT32_MAX;
    kl_http_answer_stream(r, 200, "text/plain", &s);
}

static void setup(void)
{
    struct kl_http_options o = { .listen = "127.0.0.1:0", .threads = 1 };
    struct kl_http_route   route = { "GET", "/lines", 0, lines, NULL, false };

    atomic_store(&pieces_made, 0);
    atomic_store(&ended, 0);
    server = kl_http_server_new(&o);
    kl_http_route_add(server, &route);
    ck_assert_msg(kl_http_server_start(server, &err) == KL_OK, "%s", err.text);
}

static void teardown(void)
{
    kl_http_server_stop(server, 100);
    kl_http_server_free(server);
}

static int dial(const char *request)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)kl_http_server_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval     t = { .tv_sec = 10 };
    int                fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    ck_assert_int_eq(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
    return fd;
}

#define ASK(what, more) "GET /lines" what " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" more "\r\n"

/* All until the connection ends; the chunked body in *body. False where it has no last chunk. */
static bool hear(int fd, char **head, struct kl_buf *body)
{
    static char buf[1 << 16];
    struct kl_buf all = { 0 };
    ssize_t n;
    bool    whole = false;

    while ((n = recv(fd, buf, sizeof buf, 0)) > 0)
        kl_buf_add(&all, buf, (size_t)n);
    close(fd);
    kl_buf_add8(&all, 0);
    char *at = strstr(all.at, "\r\n\r\n");
    ck_assert_ptr_nonnull(at);
    *at = '\0';
    *head = kl_strdup(all.at);
    for (at += 4; at < all.at + all.size - 1;) {
        size_t size = strtoull(at, &at, 16);

        at += 2;
        if (size == 0) {
            whole = true;
            break;
        }
        if (at + size > all.at + all.size)
            break;
        kl_buf_add(body, at, size);
        at += size + 2;
    }
    kl_buf_deinit(&all);
    return whole;
}

static void check_lines(struct kl_span got, unsigned count)
{
    ck_assert_uint_eq(got.size, (size_t)count * LINE_BYTES);
    for (unsigned i = 0; i < count; i++) {
        char line[LINE_BYTES + 4];

        snprintf(line, sizeof line, "%07u\n", i);
        ck_assert_mem_eq((const char *)got.at + (size_t)i * LINE_BYTES, line, LINE_BYTES);
    }
}

START_TEST(streams_arrive_whole_and_in_order_in_the_coding_that_is_liked_best)
{
    static const struct { const char *request, *coding; } cases[] = {
        { ASK("?pieces=300", ""), "" },
        { ASK("?pieces=300", "Accept-Encoding: gzip\r\n"), "gzip" },
        { ASK("?pieces=300", "Accept-Encoding: gzip, zstd\r\n"), "zstd" },
        { ASK("?pieces=300", "Accept-Encoding: gzip, zstd;q=0.5\r\n"), "gzip" },
    };
    enum { LINES = 300 * LINES_PIECE };
    static char   plain[LINES * LINE_BYTES + 1];
    struct kl_buf body = { 0 };
    char         *head, wanted[60];

    ck_assert(hear(dial(cases[_i].request), &head, &body));
    snprintf(wanted, sizeof wanted, "Content-Encoding: %s", cases[_i].coding);
    if (cases[_i].coding[0] == '\0') {
        ck_assert_ptr_null(strstr(head, "Content-Encoding"));
        check_lines(kl_buf_span(&body), LINES);
    } else if (strcmp(cases[_i].coding, "zstd") == 0) {
        ZSTD_DCtx     *d = ZSTD_createDCtx();
        ZSTD_outBuffer to = { plain, sizeof plain, 0 };
        ZSTD_inBuffer  from = { body.at, body.size, 0 };

        ck_assert_ptr_nonnull(strstr(head, wanted));
        ck_assert_uint_eq(ZSTD_decompressStream(d, &to, &from), 0);
        ZSTD_freeDCtx(d);
        check_lines(kl_span(plain, to.pos), LINES);
    } else {
        z_stream z = { .next_in = (Bytef *)body.at, .avail_in = (uInt)body.size,
                       .next_out = (Bytef *)plain, .avail_out = sizeof plain };

        ck_assert_ptr_nonnull(strstr(head, wanted));
        ck_assert_int_eq(inflateInit2(&z, 31), Z_OK);
        ck_assert_int_eq(inflate(&z, Z_FINISH), Z_STREAM_END);
        inflateEnd(&z);
        check_lines(kl_span(plain, z.total_out), LINES);
    }
    free(head);
    kl_buf_deinit(&body);
}
END_TEST

START_TEST(what_a_client_does_not_read_is_not_made)
{
    int fd = dial(ASK("?pieces=100000", ""));
    char byte;

    ck_assert_int_eq(recv(fd, &byte, 1, 0), 1);
    for (unsigned before = UINT32_MAX, now; (now = atomic_load(&pieces_made)) != before; before = now)
        usleep(100000);
    /* What the two sockets' buffers hold, and not the 800 MB that there would be. */
    ck_assert_uint_lt(atomic_load(&pieces_made), 5000);
    ck_assert_uint_eq(atomic_load(&ended), 0);
    close(fd);
    while (atomic_load(&ended) == 0)
        usleep(1000);
}
END_TEST

START_TEST(half_an_answer_is_not_taken_for_a_whole_one)
{
    struct kl_buf body = { 0 };
    char         *head;

    ck_assert(!hear(dial(ASK("?pieces=30&breaks=20", "")), &head, &body));
    ck_assert_uint_lt(body.size, 30u * LINES_PIECE * LINE_BYTES);
    free(head);
    kl_buf_deinit(&body);
}
END_TEST

START_TEST(stopping_ends_streams_that_nobody_reads)
{
    int fd = dial(ASK("?pieces=100000", ""));
    char byte;

    ck_assert_int_eq(recv(fd, &byte, 1, 0), 1);
    kl_http_server_stop(server, 10);
    ck_assert_uint_eq(atomic_load(&ended), 1);
    close(fd);
}
END_TEST

START_TEST(codings_are_weighed)
{
    static const struct { const char *accepted; enum kl_http_coding coding; } cases[] = {
        { NULL, KL_HTTP_PLAIN },
        { "", KL_HTTP_PLAIN },
        { "identity, br", KL_HTTP_PLAIN },
        { "gzip", KL_HTTP_GZIP },
        { "X-GZIP", KL_HTTP_GZIP },
        { "*", KL_HTTP_GZIP },
        { "*;q=0", KL_HTTP_PLAIN },
        { "zstd", KL_HTTP_ZSTD },
        { "gzip, deflate, br, zstd", KL_HTTP_ZSTD },
        { "gzip;q=1.0, zstd;q=0.999", KL_HTTP_GZIP },
        { "gzip;q=0.2, zstd;q=0.3", KL_HTTP_ZSTD },
        { "gzip;q=0, zstd;q=0.000", KL_HTTP_PLAIN },
        { "gzip;q=0, *", KL_HTTP_PLAIN },
        { "zstd;q=0, *", KL_HTTP_GZIP },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ck_assert_msg(kl_http_coding_of(cases[i].accepted) == cases[i].coding, "%s",
                      cases[i].accepted);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/http/stream");
    TCase *t = tcase_create("stream");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, streams_arrive_whole_and_in_order_in_the_coding_that_is_liked_best, 0, 4);
    tcase_add_test(t, what_a_client_does_not_read_is_not_made);
    tcase_add_test(t, half_an_answer_is_not_taken_for_a_whole_one);
    tcase_add_test(t, stopping_ends_streams_that_nobody_reads);
    tcase_add_test(t, codings_are_weighed);
    suite_add_tcase(s, t);
    return run_suite(s);
}
