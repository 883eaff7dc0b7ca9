/* libkoal/http/client: against our own server, on loopback. */
#include "libkoal/http/client.h"
#include "libkoal/http/http.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct kl_http_server *server;
static struct kl_metrics     *metrics;
static struct kl_http_client *client;
static struct kl_err          err;
static char                   base[64], url[128], token[64];
static struct kl_buf          got, form;

static void echo(void *ctx, struct kl_http_request *r)
{
    struct kl_buf b = { 0 };

    (void)ctx;
    kl_buf_addf(&b, "%s a=%s b=%s tenant=%s auth=%s", kl_http_method(r), kl_http_param(r, "a", 0),
                kl_http_param(r, "b", 0), kl_http_header(r, "X-Scope-OrgID"), kl_http_header(r, "Authorization"));
    kl_http_set(r, "X-Extra", "yes");
    kl_http_answer_take(r, 200, "text/plain", &b);
}

static void refuse(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    kl_http_answer(r, 422, "text/plain", kl_span_str("too\nmuch"));
}

/* What a server that is too helpful says. */
static void repeat(void *ctx, struct kl_http_request *r)
{
    struct kl_buf b = { 0 };

    (void)ctx;
    kl_buf_addf(&b, "%s with %s of %s is no \xc3\xa4", kl_http_method(r), kl_http_header(r, "Authorization"),
                kl_http_header(r, "Content-Type"));
    kl_http_answer_take(r, 503, "text/plain", &b);
}

/* What ours say. */
static void name_key(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    kl_http_answer(r, 403, "text/plain", kl_span_str("key 0123456789abcdef has no role read"));
}

static void large(void *ctx, struct kl_http_request *r)
{
    struct kl_buf b = { 0 };

    (void)ctx;
    for (int i = 0; i < 400000; i++)
        kl_buf_addf(&b, "%d,", i);
    kl_http_answer_take(r, 200, "text/plain", &b);
}

static void setup(void)
{
    const struct kl_http_route routes[] = {
        { .method = "GET,POST", .path = "/echo", .body_max_bytes = 10000, .handle = echo },
        { .method = "POST", .path = "/refuse", .body_max_bytes = 10000, .handle = refuse },
        { .method = "DELETE,POST", .path = "/repeat", .body_max_bytes = 10000, .handle = repeat },
        { .method = "POST", .path = "/named", .body_max_bytes = 10000, .handle = name_key },
        { .method = "POST", .path = "/large", .body_max_bytes = 10000, .handle = large },
    };
    FILE *f;

    metrics = kl_metrics_new();
    server = kl_http_server_new(&(struct kl_http_options){ .listen = "127.0.0.1:0", .threads = 1, .metrics = metrics });
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        kl_http_route_add(server, &routes[i]);
    ck_assert_msg(kl_http_server_start(server, &err) == KL_OK, "%s", err.text);
    snprintf(base, sizeof base, "http://127.0.0.1:%u", kl_http_server_port(server));
    snprintf(token, sizeof token, "/tmp/client-%d", (int)getpid());
    f = fopen(token, "w");
    fputs("the-token\r\n", f);
    fclose(f);
    client = kl_http_client_new(&(struct kl_http_client_options){ .tenant = "team", .token_file = token });
    kl_buf_init(&got, 64 << 20);
    kl_buf_init(&form, 1 << 20);
}

static void teardown(void)
{
    kl_http_client_free(client);
    if (server != NULL) {
        kl_http_server_stop(server, 1000);
        kl_http_server_free(server);
    }
    kl_metrics_free(metrics);
    kl_buf_deinit(&got);
    kl_buf_deinit(&form);
    unlink(token);
}

static bool take(void *ctx, struct kl_span bytes)
{
    size_t *most = ctx;

    kl_buf_add(&got, bytes.at, bytes.size);
    return most == NULL || got.size < *most;
}

static enum kl_code ask(struct kl_http_asked *a, const char *path)
{
    snprintf(url, sizeof url, "%s%s", base, path);
    a->url = url;
    a->take = take;
    kl_buf_reset(&got);
    return kl_http_client_ask(client, a, &err);
}

START_TEST(a_form_comes_as_it_was_by_either_method)
{
    struct kl_http_asked a = { .method = _i == 1 ? "GET" : NULL, .header = "x-extra" };

    kl_http_form_add(&form, "a", kl_span_str("{x=\"1&2 +%\"}\n"));
    kl_http_form_add(&form, "b", kl_span_str("\xc3\xa4"));
    a.body = kl_buf_span(&form);
    ck_assert_msg(ask(&a, "/echo") == KL_OK, "%s", err.text);
    ck_assert_uint_eq(a.status, 200);
    ck_assert_str_eq(a.kept, "yes");
    kl_buf_add8(&got, 0);
    ck_assert_str_eq(got.at, _i == 1 ? "GET a={x=\"1&2 +%\"}\n b=\xc3\xa4 tenant=team auth=Bearer the-token"
                                     : "POST a={x=\"1&2 +%\"}\n b=\xc3\xa4 tenant=team auth=Bearer the-token");
}
END_TEST

START_TEST(a_refusal_is_words_and_no_bytes)
{
    struct kl_http_asked a = { .header = "X-Extra" };

    ck_assert_int_eq(ask(&a, "/refuse"), KL_OK);
    ck_assert_uint_eq(a.status, 422);
    ck_assert_str_eq(a.words, "too much");
    ck_assert_str_eq(a.kept, "");
    ck_assert_uint_eq(got.size, 0);
}
END_TEST

START_TEST(words_that_repeat_the_token_are_not_told)
{
    struct kl_http_asked a = { .method = "DELETE", .type = "application/x-protobuf", .body = kl_span("\0\1", 2),
                               .timeout_ms = 20000 };

    ck_assert_int_eq(ask(&a, "/repeat"), KL_OK);
    ck_assert_uint_eq(a.status, 503);
    ck_assert_str_eq(a.words, "(its words may repeat our secret)");
    kl_http_client_free(client);                       /* without a token they are, as ASCII */
    client = kl_http_client_new(&(struct kl_http_client_options){ .tenant = "team" });
    ck_assert_int_eq(ask(&a, "/repeat"), KL_OK);
    ck_assert_str_eq(a.words, "DELETE with (null) of application/x-protobuf is no   ");
}
END_TEST

static void token_is(const char *text)
{
    FILE *f = fopen(token, "w");

    fputs(text, f);
    fclose(f);
}

START_TEST(words_that_name_a_key_without_its_secret_are_told)
{
    static const char key[] = "0123456789abcdef.00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    struct kl_http_asked a = { .timeout_ms = 20000 };

    token_is(key);
    ck_assert_int_eq(ask(&a, "/named"), KL_OK);
    ck_assert_str_eq(a.words, "key 0123456789abcdef has no role read");
    ck_assert_int_eq(ask(&a, "/repeat"), KL_OK);
    ck_assert_str_eq(a.words, "(its words may repeat our secret)");
    for (int dots = 0; dots < 3; dots++) {             /* no keys of ours: what stands before a dot may be a secret */
        token_is((const char *[]){ "0123456789abcdef", "0123456789abcdef.pass.word", "0123456789abcdef.00112233" }[dots]);
        ck_assert_int_eq(ask(&a, "/named"), KL_OK);
        ck_assert_str_eq(a.words, "(its words may repeat our secret)");
    }
}
END_TEST

START_TEST(what_stands_before_the_at_of_an_address_is_not_told)
{
    struct kl_http_asked a = { .url = "http://me:canary@127.0.0.1:1/v1/traces", .timeout_ms = 2000 };

    ck_assert_int_eq(kl_http_client_ask(client, &a, &err), KL_EAGAIN);
    ck_assert_ptr_null(strstr(err.text, "canary"));
    ck_assert_ptr_nonnull(strstr(err.text, "http://***@127.0.0.1:1/v1/traces: "));
    ck_assert_str_eq(a.shown, "http://***@127.0.0.1:1/v1/traces");
}
END_TEST

START_TEST(where_nobody_listens_is_told_from_an_answer_that_breaks_off)
{
    struct kl_http_asked a = { .url = "http://127.0.0.1:1/", .timeout_ms = 20000 };

    ck_assert_int_eq(kl_http_client_ask(client, &a, &err), KL_EAGAIN);
    ck_assert(a.refused);
    ck_assert_int_eq(ask(&a, "/refuse"), KL_OK);
    ck_assert(!a.refused);
    a.url = "https://127.0.0.1:1/";
    ck_assert_int_eq(kl_http_client_ask(client, &a, &err), KL_EAGAIN);
    ck_assert(a.refused);
    a.url = "nothing://127.0.0.1:1/";
    ck_assert_int_eq(kl_http_client_ask(client, &a, &err), KL_EAGAIN);
    ck_assert(!a.refused);
}
END_TEST

START_TEST(a_large_answer_comes_whole_and_may_be_left)
{
    struct kl_http_asked a = { 0 };
    size_t               most = 1000;

    ck_assert_int_eq(ask(&a, "/large"), KL_OK);
    ck_assert_uint_gt(got.size, 2000000);
    ck_assert_mem_eq(got.at + got.size - 7, "399999,", 7);
    a.ctx = &most;
    ck_assert_int_eq(ask(&a, "/large"), KL_ECANCELED);
    ck_assert_uint_lt(got.size, 1000000);
    a.ctx = NULL;
    ck_assert_int_eq(ask(&a, "/echo"), KL_OK);         /* and the next is as if nothing had been */
    ck_assert_uint_eq(a.status, 200);
}
END_TEST

/* Without it we would ask as a stranger, and be told no; half of it is no token. */
START_TEST(a_token_that_cannot_be_read_whole_is_an_error_and_nobody_is_asked)
{
    struct kl_http_asked a = { .url = url };
    FILE                *f;

    snprintf(url, sizeof url, "%s/echo", base);
    unlink(token);
    ck_assert_int_eq(mkdir(token, 0700), 0);
    ck_assert_int_eq(kl_http_client_ask(client, &a, &err), KL_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, token));
    ck_assert_uint_eq(a.status, 0);
    ck_assert_int_eq(rmdir(token), 0);
    f = fopen(token, "w");
    for (int i = 0; i < 5000; i++)
        fputc('t', f);
    fclose(f);
    ck_assert_int_eq(kl_http_client_ask(client, &a, &err), KL_EIO);
    ck_assert_uint_eq(a.status, 0);
    ck_assert_ptr_null(strstr(err.text, "tttt"));
}
END_TEST

START_TEST(nobody_there_and_no_address_are_failures_with_words)
{
    struct kl_http_asked a = { 0 };

    kl_http_server_stop(server, 0);
    kl_http_server_free(server);
    server = NULL;
    ck_assert_int_eq(ask(&a, "/echo"), KL_EAGAIN);
    ck_assert_ptr_nonnull(strstr(err.text, base));
    strcpy(base, "file:///etc");
    ck_assert_int_eq(ask(&a, "/passwd"), KL_EAGAIN);
    ck_assert_uint_eq(got.size, 0);
    unlink(token);
    ck_assert_int_eq(ask(&a, "/echo"), KL_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, token));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/http/client");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_form_comes_as_it_was_by_either_method, 0, 2);
    tcase_add_test(t, a_refusal_is_words_and_no_bytes);
    tcase_add_test(t, words_that_repeat_the_token_are_not_told);
    tcase_add_test(t, words_that_name_a_key_without_its_secret_are_told);
    tcase_add_test(t, a_token_that_cannot_be_read_whole_is_an_error_and_nobody_is_asked);
    tcase_add_test(t, what_stands_before_the_at_of_an_address_is_not_told);
    tcase_add_test(t, where_nobody_listens_is_told_from_an_answer_that_breaks_off);
    tcase_add_test(t, a_large_answer_comes_whole_and_may_be_left);
    tcase_add_test(t, nobody_there_and_no_address_are_failures_with_words);
    suite_add_tcase(s, t);
    return run_suite(s);
}
