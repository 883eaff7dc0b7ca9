/* doorman/http: statuses and words, over a real socket and real threads. */
#include "doorman/doorman.h"
#include "libkoal/http/http.h"

#include "tests/suite.h"
#include "tests/unit/doorman/fake_bus.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <snappy-c.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

static struct kl_env         *env;
static struct fake_bus        bus;
static struct dm_doorman     *doorman;
static struct kl_http_server *server;
static struct dm_http        *http;
static struct kl_metrics     *metrics;
static struct kl_err          err;

static void setup(void)
{
    struct kl_http_options ho = { .listen = "127.0.0.1:0", .threads = 2 };
    struct dm_options o = {
        .inflight_bytes_max = 64 << 20, .limits = { .label_count_max = 10, .name_bytes_max = 50,
        .value_bytes_max = 50, .body_bytes_max = 100000, .inflated_bytes_max = 200000,
        .past_ms = 3600000, .future_ms = 600000 },
    };

    env = kl_env_real_new(1);
    fake_open(&bus, env, 4);
    bus.acks_at_once = true;
    metrics = kl_metrics_new();
    o.metrics = metrics;
    doorman = dm_new(env, &bus.bus, &o);
    server = kl_http_server_new(&ho);
    http = dm_http_new(doorman, server, &o, env);
    ck_assert_msg(kl_http_server_start(server, &err) == KL_OK, "%s", err.text);
    for (int i = 0; i < 2000 && !dm_ready(doorman, &err); i++)
        usleep(1000);
    ck_assert(dm_ready(doorman, &err));
}

static void teardown(void)
{
    kl_http_server_stop(server, 1000);
    fake_close(&bus);
    dm_http_free(http);
    dm_free(doorman);
    kl_http_server_free(server);
    kl_env_real_free(env);
    kl_metrics_free(metrics);
    kl_buf_deinit(&bus.placement);
}

/* Posts; returns the status, with head and body of the answer in `answer`. */
static int post(const char *path, const char *headers, const void *body, size_t size, char *answer,
                size_t room)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)kl_http_server_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int      s = socket(AF_INET, SOCK_STREAM, 0), status = 0;
    char     head[1000];
    size_t   got = 0;
    ssize_t  n;

    ck_assert_int_eq(connect(s, (struct sockaddr *)&a, sizeof a), 0);
    n = snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                 "Content-Length: %zu\r\n%s\r\n", path, size, headers);
    ck_assert_int_eq(send(s, head, (size_t)n, MSG_NOSIGNAL), n);
    for (size_t at = 0; at < size; at += (size_t)n)
        if ((n = send(s, (const char *)body + at, size - at, MSG_NOSIGNAL)) <= 0)
            break;                                     /* refused early */
    while (got + 1 < room && (n = recv(s, answer + got, room - 1 - got, 0)) > 0)
        got += (size_t)n;
    answer[got] = '\0';
    close(s);
    ck_assert_int_eq(sscanf(answer, "HTTP/1.1 %d", &status), 1);
    return status;
}

static char answer[8192];
static int  text(const char *headers, const char *body)
{
    return post("/api/v1/import/prometheus", headers, body, strlen(body), answer, sizeof answer);
}

static size_t packed(char *out, size_t room, bool good)
{
    struct kl_buf m = { 0 }, s = { 0 };

    rw1_label(&s, good ? "__name__" : "a", "m");
    rw1_sample(&s, kl_env_now_ms(env), 1);
    rw1_end(&m, &s);
    ck_assert_int_eq(snappy_compress(m.at, m.size, out, &room), SNAPPY_OK);
    kl_buf_deinit(&m);
    kl_buf_deinit(&s);
    return room;
}

#define RW "Content-Type: application/x-protobuf\r\n"
static const struct { const char *path, *headers; int status; } writes[] = {
    { "/api/v1/write", RW "Content-Encoding: snappy\r\n", 204 },
    { "/api/v1/push", RW "Content-Encoding: snappy\r\n", 204 },
    { "/api/v1/write", RW, 204 },
    { "/api/v1/write", "Content-Encoding: snappy\r\n", 204 },
    { "/api/v1/write", RW "X-Scope-OrgID: team-a_1.x\r\n", 204 },
    { "/api/v1/write", "Content-Type: application/x-protobuf;proto=prometheus.WriteRequest\r\n", 204 },
    { "/api/v1/write", "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Requests\r\n", 415 },
    { "/api/v1/write", "Content-Type: application/x-protobuf;proto=prometheus.Write\r\n", 415 },
    { "/api/v1/write", "Content-Type: text/plain\r\n", 415 },
    { "/api/v1/write", "Content-Type: application/x-protobuffer\r\n", 415 },
    { "/api/v1/write", RW "Content-Encoding: br\r\n", 415 },
    { "/api/v1/write", RW "Content-Encoding: gzip\r\n", 400 },
    { "/api/v1/write", RW "X-Scope-OrgID: ..\r\n", 400 },
    { "/api/v1/write", RW "X-Scope-OrgID: .\r\n", 400 },
    { "/api/v1/write", RW "X-Scope-OrgID: a/b\r\n", 400 },
    { "/api/v1/write", RW "X-Scope-OrgID: a|b\r\n", 400 },
    { "/api/v1/write", RW "X-Scope-OrgID: a b\r\n", 400 },
    { "/api/v1/import/prometheus", "Content-Type: text/html\r\n", 415 },
    { "/api/v1/import/prometheus", "Content-Type: application/json\r\n", 415 },
};

START_TEST(a_remote_write_is_answered_by_type_coding_and_tenant)
{
    char   body[1000];
    size_t n = packed(body, sizeof body, true);

    ck_assert_msg(post(writes[_i].path, writes[_i].headers, body, n, answer, sizeof answer) ==
                  writes[_i].status, "%s", answer);
    if (writes[_i].status != 204)
        ck_assert_uint_gt(strlen(strstr(answer, "\r\n\r\n") + 4), 10);        /* words */
}
END_TEST

START_TEST(a_broken_body_is_400_and_a_large_one_413)
{
    static const char bomb[] = "\xff\xff\xff\xff\x0f" "abc";
    char  *large = calloc(1, 300000), body[1000];
    size_t n = packed(body, sizeof body, true);
    uLongf size = 300000;
    z_stream z = { 0 };

    ck_assert_int_eq(post("/api/v1/write", RW, "", 0, answer, sizeof answer), 400);
    ck_assert_int_eq(post("/api/v1/write", RW, body, n - 2, answer, sizeof answer), 400);
    ck_assert_int_eq(post("/api/v1/write", RW, "\x04\x0c\xff\xff\xff\xff", 6, answer, sizeof answer), 400);
    ck_assert_int_eq(post("/api/v1/write", RW, bomb, sizeof bomb - 1, answer, sizeof answer), 413);
    ck_assert_int_eq(post("/api/v1/write", RW, large, 300000, answer, sizeof answer), 413);
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    memset(large, '#', 250000);
    z.next_in = (Bytef *)large;
    z.avail_in = 250000;
    z.next_out = malloc(size);
    z.avail_out = (uInt)size;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    ck_assert_int_eq(post("/api/v1/import/prometheus", "Content-Encoding: gzip\r\n",
                          z.next_out - z.total_out, z.total_out, answer, sizeof answer), 413);
    free(z.next_out - z.total_out);
    deflateEnd(&z);
    free(large);
}
END_TEST

START_TEST(what_is_refused_is_counted_and_named_and_shown_at_metrics)
{
    char          body[1000];
    size_t        n = packed(body, sizeof body, false);
    struct kl_buf m = { 0 };

    ck_assert_int_eq(post("/api/v1/write", RW, body, n, answer, sizeof answer), 400);
    ck_assert_ptr_nonnull(strstr(answer, "1 refused, 0 stored: 1 without a metric name, the first: {a=\"m\"}"));
    ck_assert_int_eq(text("", "a 1\nb{ 2\nc 3\n"), 400);
    ck_assert_ptr_nonnull(strstr(answer, "1 refused, 2 stored"));
    kl_metrics_write(metrics, &m);
    kl_buf_add8(&m, 0);
    ck_assert_ptr_nonnull(strstr(m.at, "koalemos_doorman_refused_total{reason=\"no_name\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(m.at, "koalemos_doorman_refused_total{reason=\"bad_line\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(m.at, "koalemos_doorman_samples_total 2\n"));
    ck_assert_ptr_nonnull(strstr(m.at, "koalemos_doorman_remembered_misses_total 3\n"));
    kl_buf_deinit(&m);
}
END_TEST

START_TEST(text_is_taken_as_curl_and_agents_send_it)
{
    static const char *const types[] = {
        "", "Content-Type: text/plain; version=0.0.4\r\n", "Content-Type: text/plain\r\n",
        "Content-Type: application/octet-stream\r\n", "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: application/openmetrics-text; version=1.0.0\r\n",
    };

    ck_assert_msg(text(types[_i], _i == 5 ? "# TYPE a gauge\na 1\n# EOF\n" : "a{x=\"z&y\"} 1\n") == 204,
                  "%s", answer);
}
END_TEST

#define JSON(time) "{\"metric\":{\"__name__\":\"m\"},\"values\":[1],\"timestamps\":[" time "]}\n"
static const struct { const char *path, *body; int status; const char *says; } imports[] = {
    { "/write", "cpu,host=a load=1,user=\"x\"\n", 204, "X-Influxdb-Version: 1." },
    { "/write?db=d&rp=r&precision=ms&u=x&p=y", "cpu load=1\n", 204, "" },
    { "/write?precision=week", "cpu load=1\n", 400, "{\"error\":\"precision is" },
    { "/write?precision=s", "cpu load=1 5\n", 400, "1 older than limits.past, the first: cpu_load{}" },
    { "/write?db=d", "cpu load=1\ncpu,host=b load=oops\ncpu,x=\xff load=1\n", 400,
      "{\"error\":\"partial write: 2 refused, 1 stored: 1 with a label that is not UTF-8" },
    { "/write", "cpu,a=1,a=2 load=1\n", 400, "1 with a label name given twice" },
    { "/api/v2/write?org=o&bucket=b&precision=us", "cpu,host=a load=1\n", 204, "" },
    { "/api/v2/write?org=o&bucket=b", "cpu\n", 400, "{\"code\":\"invalid\",\"message\":\"partial write: 1 refused" },
    { "/query?q=CREATE%20DATABASE%20x", "", 200, "{\"results\":[{\"statement_id\":0}]}" },
    { "/query?q=show+databases&db=mine", "", 200, "\"values\":[[\"mine\"]]" },
    { "/query?q=SELECT+1", "", 200, "\"error\":\"InfluxQL" },
    { "/query", "", 400, "missing required parameter" },
    { "/api/v1/import", "", 204, "" },
    { "/api/v1/import", JSON("99"), 400, "1 refused, 0 stored: 1 older than limits.past, the first: m{}" },
    { "/api/v1/import", "{\"metric\":{\"__name__\":\"m\"},\"values\":[x,y],\"timestamps\":[1,2]}", 400,
      "2 with a value or timestamp that is no number, the first: m{}" },
    { "/api/v1/import", "nonsense\n", 400, "line 1, column 1" },
    { "/api/v1/import/csv?format=1:metric:m,2:label:l", "1,a\n2,b\n", 204, "" },
    { "/api/v1/import/csv?format=1:metric:m,2:label:l", "1,a\nx,b\ny", 400, "2 refused, 1 stored" },
    { "/api/v1/import/csv?format=1:metric", "1\n", 400, "COLUMN:TYPE:CONTEXT" },
    { "/api/v1/import/csv", "1\n", 400, "?format=" },
};

START_TEST(imports_are_answered_in_their_own_words)
{
    const char *head = imports[_i].path[1] == 'q' ? "Content-Type: application/x-www-form-urlencoded\r\n" : "";

    ck_assert_msg(post(imports[_i].path, head, imports[_i].body, strlen(imports[_i].body), answer,
                       sizeof answer) == imports[_i].status, "%s", answer);
    ck_assert_msg(strstr(answer, imports[_i].says) != NULL, "%s", answer);
    if (imports[_i].path[1] == 'a' || imports[_i].path[1] == 'w') {
        ck_assert_int_eq(post(imports[_i].path, "X-Scope-OrgID: ..\r\n", "", 0, answer, sizeof answer), 400);
        ck_assert_int_eq(post(imports[_i].path, "Content-Encoding: gzip\r\n", "x", 1, answer, sizeof answer), 400);
    }
}
END_TEST

START_TEST(a_log_that_is_full_is_503_with_retry_after)
{
    bus.acks_at_once = false;
    fake_close(&bus);                                  /* every append fails from now on */
    ck_assert_int_eq(text("", "a 1\n"), 503);
    ck_assert_ptr_nonnull(strcasestr(answer, "\r\nRetry-After: "));
}
END_TEST

static void *pusher(void *arg)
{
    char own[4096];

    for (int i = 0; i < 50; i++)
        if (post("/api/v1/import/prometheus", "", arg, strlen(arg), own, sizeof own) != 204)
            return arg;
    return NULL;
}

START_TEST(remote_write_2_is_told_what_was_written)
{
    static const char type[] = "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\n";
    struct kl_buf m = { 0 }, s = { 0 }, x = { 0 };
    char          body[1000];
    size_t        n = sizeof body;

    for (int i = 0; i < 3; i++)
        rw1_bytes(&m, 4, i == 0 ? "" : i == 1 ? "__name__" : "m", i == 0 ? 0 : i == 1 ? 8 : 1);
    rw1_bytes(&s, 1, "\1\2", 2);
    kl_buf_addv(&x, 1 << 3 | 1);
    kl_buf_addf64(&x, 1);
    kl_buf_addv(&x, 2 << 3);
    kl_buf_addv(&x, (uint64_t)kl_env_now_ms(env));
    rw1_bytes(&s, 2, x.at, x.size);
    rw1_bytes(&s, 2, "", 0);                           /* a sample of 1970: too old */
    rw1_end_as(&m, 5, &s);
    ck_assert_int_eq(snappy_compress(m.at, m.size, body, &n), SNAPPY_OK);
    ck_assert_int_eq(post("/api/v1/write", type, body, n, answer, sizeof answer), 400);
    ck_assert_ptr_nonnull(strstr(answer, "X-Prometheus-Remote-Write-Samples-Written: 1\r\n"));
    ck_assert_ptr_nonnull(strstr(answer, "X-Prometheus-Remote-Write-Histograms-Written: 0\r\n"));
    ck_assert_ptr_nonnull(strstr(answer, "X-Prometheus-Remote-Write-Exemplars-Written: 0\r\n"));
    ck_assert_ptr_nonnull(strstr(answer, "1 older than limits.past, the first: m{}"));
    kl_buf_deinit(&m);
    kl_buf_deinit(&s);
    kl_buf_deinit(&x);
}
END_TEST

START_TEST(many_connections_push_at_once)
{
    static const char *const bodies[] = { "a 1\nb 2\n", "a{x=\"1\"} 1\n", "c 1\n", "b 1\na 2\n" };
    pthread_t threads[4];
    void     *bad;

    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, pusher, (void *)bodies[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &bad);
        ck_assert_ptr_null(bad);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doorman/http");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, a_remote_write_is_answered_by_type_coding_and_tenant, 0,
                        (int)(sizeof writes / sizeof writes[0]));
    tcase_add_test(t, a_broken_body_is_400_and_a_large_one_413);
    tcase_add_test(t, what_is_refused_is_counted_and_named_and_shown_at_metrics);
    tcase_add_loop_test(t, text_is_taken_as_curl_and_agents_send_it, 0, 6);
    tcase_add_loop_test(t, imports_are_answered_in_their_own_words, 0,
                        (int)(sizeof imports / sizeof imports[0]));
    tcase_add_test(t, a_log_that_is_full_is_503_with_retry_after);
    tcase_add_test(t, remote_write_2_is_told_what_was_written);
    tcase_add_test(t, many_connections_push_at_once);
    suite_add_tcase(s, t);
    return run_suite(s);
}
