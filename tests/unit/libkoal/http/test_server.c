/* libkoal/http: the server as a client sees it, byte for byte, over real sockets on loopback. */
#include "server_kit.h"

#include <zlib.h>

START_TEST(handler_sees_method_path_headers_and_sets_its_own)
{
    ck_assert_uint_eq(ask("GET /echo" H "X-Scope-OrgID: acme\r\n\r\n"), 200);
    ck_assert_str_eq(body(), "GET /echo wild= body=0 local=1 tenant=acme");
    ck_assert(has("X-Extra: yes") && has("Content-Type: text/plain"));
    ck_assert_uint_eq(ask("GET /" H "\r\n"), 200);
    ck_assert_uint_eq(ask("GET /echo" H "X-Forwarded-For: 1.2.3.4\r\n\r\n"), 200);
    ck_assert(has("local=0"));
}
END_TEST

START_TEST(star_matches_one_decoded_part_that_may_hold_a_slash)
{
    ck_assert_uint_eq(ask("GET /api/v1/label/a%2Fb%20c/values?x=1" H "\r\n"), 200);
    ck_assert_str_eq(body(), "GET /api/v1/label/a/b c/values wild=a/b c body=0 local=1");
    ck_assert_uint_eq(ask("GET /api/v1/label//values" H "\r\n"), 404);
    ck_assert_uint_eq(ask("GET /api/v1/label/a/b/values" H "\r\n"), 404);
}
END_TEST

START_TEST(parameters_repeat_and_a_form_comes_before_the_query)
{
    ck_assert_uint_eq(ask("POST /echo?match%5B%5D=up%7Ba%3D%22b+c%22%7D&&match[]=three" H
                          "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n"
                          "Content-Length: 11\r\n\r\nmatch[]=one"), 200);
    ck_assert(has("body=11 local=1 match=one match=up{a=\"b c\"} match=three"));
    ck_assert_uint_eq(ask("POST /echo" H "Content-Type: application/json\r\n"
                          "Content-Length: 11\r\n\r\nmatch[]=one"), 200);
    ck_assert(!has("match="));
}
END_TEST

START_TEST(unfit_requests_are_refused_with_words)
{
    ck_assert_uint_eq(ask("GET /none" H "\r\n"), 404);
    ck_assert_uint_eq(ask("POST /number" H "Content-Length: 0\r\n\r\n"), 405);
    ck_assert(has("Allow: GET"));
    ck_assert_uint_eq(ask("GET /echo?match[]=%zz" H "\r\n"), 400);
    ck_assert_str_eq(body(), "a % without two hex digits in a parameter\n");
    ck_assert_uint_eq(ask("GET /echo%0" H "\r\n"), 400);
    ck_assert_uint_eq(ask("GET /echo%00" H "\r\n"), 400);
    ck_assert_uint_eq(ask("nonsense\r\n\r\n"), 0);
    ck_assert_uint_eq(atomic_load(&calls), 0);
}
END_TEST

/* The guard's table knows an order by its method: what were another word to it and the same here would pass unseen. */
START_TEST(a_method_in_other_letters_is_another_method)
{
    ck_assert_uint_eq(ask("get /echo" H "\r\n"), 405);
    ck_assert(has("Allow: GET"));
    ck_assert_uint_eq(ask("post /nothing" H "Content-Length: 3\r\n\r\nabc"), 405);
    ck_assert_uint_eq(ask("head /echo" H "\r\n"), 405);
    ck_assert_uint_eq(ask("GE /echo" H "\r\n"), 405);
    ck_assert_uint_eq(ask("GET,POST /echo" H "\r\n"), 405);
    ck_assert_uint_eq(atomic_load(&calls), 0);
}
END_TEST

START_TEST(too_many_parameters_and_headers_are_refused)
{
    static char request[60000];
    size_t      size = (size_t)sprintf(request, "GET /echo?");

    for (int i = 0; i <= KL_HTTP_PARAMS_MAX; i++)
        size += (size_t)sprintf(request + size, "a=%d&", i);
    sprintf(request + size, H "\r\n");
    ck_assert_uint_eq(ask(request), 400);
    ck_assert(has("more than 1000 parameters"));
    size = (size_t)sprintf(request, "GET /echo" H);
    for (int i = 0; i <= KL_HTTP_HEADERS_MAX; i++)
        size += (size_t)sprintf(request + size, "A%d: b\r\n", i);
    sprintf(request + size, "\r\n");
    ck_assert_uint_eq(ask(request), 431);
}
END_TEST

START_TEST(head_is_answered_as_get_without_a_body)
{
    int fd = dial();

    say(fd, "HEAD /echo" H "\r\n");
    ck_assert_uint_eq(hear(fd, true), 200);
    ck_assert(!has("Content-Length: 0"));
    say(fd, "GET /nothing" H "\r\n");                  /* the next answer begins where it should */
    ck_assert_uint_eq(hear(fd, false), 405);
    close(fd);
}
END_TEST

START_TEST(connection_is_kept_and_named_until_it_ends)
{
    int      fd = dial(), other = dial();
    unsigned first, second;

    say(fd, "GET /number" H "\r\n");
    ck_assert_uint_eq(hear(fd, false), 200);
    first = (unsigned)atoi(body());
    say(fd, "POST /nothing" H "Content-Length: 3\r\n\r\nabc");
    ck_assert_uint_eq(hear(fd, false), 204);
    ck_assert(!has("Content-Length:"));
    say(fd, "GET /none" H "\r\n");
    ck_assert_uint_eq(hear(fd, false), 404);
    say(fd, "GET /later" H "\r\n");
    ck_assert_uint_eq(hear(fd, false), 200);
    say(fd, "GET /number" H "\r\n");
    ck_assert_uint_eq(hear(fd, false), 200);
    ck_assert_uint_eq((unsigned)atoi(body()), first);
    say(other, "GET /number" H "\r\n");
    ck_assert_uint_eq(hear(other, false), 200);
    second = (unsigned)atoi(body());
    ck_assert_uint_ne(first, second);
    close(fd);
    close(other);
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
    int fd = dial();

    say(fd, "GET /later" H "\r\nGET /echo?match[]=2" H "\r\nGET /race" H "\r\n");
    ck_assert_uint_eq(hear(fd, false), 200);
    ck_assert_str_eq(body(), "later");
    ck_assert_uint_eq(hear(fd, false), 200);
    ck_assert(has("match=2"));
    ck_assert_uint_eq(hear(fd, false), 200);
    ck_assert_str_eq(body(), "later");
    close(fd);
}
END_TEST

/* The answer may come before the connection is suspended, while, or after. */
START_TEST(answers_that_race_with_the_handlers_return_all_arrive)
{
    int fd = dial();

    for (int i = 0; i < 2000; i++) {
        say(fd, "GET /race" H "\r\n");
        ck_assert_uint_eq(hear(fd, false), 200);
    }
    close(fd);
}
END_TEST

START_TEST(large_answers_are_compressed_for_those_who_take_it)
{
    uLongf   size;
    z_stream z = { .zalloc = Z_NULL };
    static char plain[300000];

    ck_assert_uint_eq(ask("GET /large" H "\r\n"), 200);
    ck_assert(!has("Content-Encoding") && has("Vary: Accept-Encoding"));
    ck_assert_uint_eq(ask("GET /large" H "Accept-Encoding: gzip;q=0\r\n\r\n"), 200);
    ck_assert(!has("Content-Encoding"));
    size = strlen(body());
    ck_assert_uint_eq(ask("GET /large" H "Accept-Encoding: deflate, gzip\r\n\r\n"), 200);
    ck_assert(has("Content-Encoding: gzip"));
    z.next_in = (Bytef *)(uintptr_t)body();
    z.avail_in = (uInt)(answer_size - (size_t)(body() - answer));
    z.next_out = (Bytef *)plain;
    z.avail_out = sizeof plain;
    ck_assert_int_eq(inflateInit2(&z, 31), Z_OK);
    ck_assert_int_eq(inflate(&z, Z_FINISH), Z_STREAM_END);
    inflateEnd(&z);
    ck_assert_uint_eq(z.total_out, size);
    ck_assert_int_eq(memcmp(plain, "line 0\nline 1\n", 14), 0);
    ck_assert_uint_eq(ask("GET /echo" H "Accept-Encoding: gzip\r\n\r\n"), 200);
    ck_assert(!has("Content-Encoding"));
}
END_TEST

START_TEST(what_a_handler_packed_is_not_packed_again)
{
    ck_assert_uint_eq(ask("GET /packed" H "Accept-Encoding: gzip\r\n\r\n"), 200);
    ck_assert(has("Content-Encoding: snappy") && !has("Content-Encoding: gzip"));
    ck_assert_int_eq(memcmp(body(), "line 0\nline 1\n", 14), 0);
}
END_TEST

static enum kl_code try_listen(const char *listen)
{
    struct kl_http_server *s = kl_http_server_new(&(struct kl_http_options){ .listen = listen });
    enum kl_code           code = kl_http_server_start(s, &err);

    kl_http_server_free(s);
    return code;
}

START_TEST(address_that_cannot_be_had_is_named_with_the_reason)
{
    char taken[40], want[100];

    snprintf(taken, sizeof taken, "127.0.0.1:%u", kl_http_server_port(server));
    snprintf(want, sizeof want, "cannot listen on %s: Address already in use", taken);
    ck_assert_int_eq(try_listen(taken), KL_EIO);
    ck_assert_str_eq(err.text, want);
    ck_assert_int_eq(try_listen("nonsense"), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "\"nonsense\": it should read host:port"));
    ck_assert_int_eq(try_listen("127.0.0.1:99999"), KL_EINVAL);
    ck_assert_int_eq(try_listen("::1:80"), KL_EINVAL);
    ck_assert_int_eq(try_listen("192.0.2.1:0"), KL_EIO);
    ck_assert_int_eq(try_listen(":0"), KL_OK);
}
END_TEST

START_TEST(answers_are_counted_by_route_and_class)
{
    struct kl_buf b = { 0 };

    ask("GET /echo" H "\r\n");
    ask("GET /echo?%" H "\r\n");
    ask("GET /none" H "\r\n");
    kl_metrics_write(metrics, &b);
    kl_buf_add8(&b, 0);
    ck_assert_ptr_nonnull(strstr(b.at, "koalemos_http_requests_total{code=\"2xx\",method=\"GET,POST"
                                       "\",path=\"/echo\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(b.at, "{code=\"4xx\",method=\"GET,POST\",path=\"/echo\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(b.at, "{code=\"4xx\",method=\"\",path=\"\"} 1\n"));
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(who_is_around_a_handler_may_answer_for_it)
{
    int fd = dial();

    atomic_store(&rounds.before, 0);
    atomic_store(&rounds.after, 0);
    for (unsigned i = 1; i <= 20; i++) {
        say(fd, "GET /off HTTP/1.1\r\nHost: x\r\n\r\n");
        ck_assert_uint_eq(hear(fd, false), 200);
        ck_assert_ptr_nonnull(strstr(answer, "\r\n\r\nafterwards"));
        ck_assert_uint_eq(atomic_load(&rounds.before), i);
        ck_assert_uint_eq(atomic_load(&rounds.after), i);
    }
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/http/server");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, handler_sees_method_path_headers_and_sets_its_own);
    tcase_add_test(t, star_matches_one_decoded_part_that_may_hold_a_slash);
    tcase_add_test(t, parameters_repeat_and_a_form_comes_before_the_query);
    tcase_add_test(t, unfit_requests_are_refused_with_words);
    tcase_add_test(t, a_method_in_other_letters_is_another_method);
    tcase_add_test(t, too_many_parameters_and_headers_are_refused);
    tcase_add_test(t, head_is_answered_as_get_without_a_body);
    tcase_add_test(t, connection_is_kept_and_named_until_it_ends);
    tcase_add_test(t, pipelined_requests_are_answered_in_order);
    tcase_add_test(t, answers_that_race_with_the_handlers_return_all_arrive);
    tcase_add_test(t, large_answers_are_compressed_for_those_who_take_it);
    tcase_add_test(t, what_a_handler_packed_is_not_packed_again);
    tcase_add_test(t, address_that_cannot_be_had_is_named_with_the_reason);
    tcase_add_test(t, answers_are_counted_by_route_and_class);
    tcase_add_test(t, who_is_around_a_handler_may_answer_for_it);
    suite_add_tcase(s, t);

    return run_suite(s);
}
